"""Scales are those of the norms of the text's tokens at each checkpoint."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from crosstime.activations.estimate_scales import estimate_scales
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from interventions import Site
from tasks.agreement import sentences

TEXT = list(sentences(40, seed=5))


@pytest.mark.parametrize("first_tokens", [False, True])
def test_scales_make_the_mean_norm_the_root_of_the_width(brief_suite: Suite, *, first_tokens: bool):
    scales = estimate_scales(brief_suite, Site(0), TEXT, TextSample(5, 8), first_tokens=first_tokens)
    rows = TextSample(5, 8).read(TEXT, brief_suite.tokenizer)
    for index, checkpoint in enumerate(brief_suite):
        model = AutoModelForCausalLM.from_pretrained(checkpoint.source, dtype=torch.float32).eval()
        with torch.no_grad():
            states = model(torch.tensor(rows.ids), output_hidden_states=True).hidden_states
        norms = states[1].double().norm(dim=-1)[:, 0 if first_tokens else 1 :]
        assert scales[index].item() == pytest.approx(brief_suite.d_model**0.5 / norms.mean().item(), rel=1e-5)
