"""Scores of bare models, one prompt at a time, with activations replaced by a forward hook."""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import crosstime as ct
from crosstime.crosscoders.decompose import DecomposedTask


def scores_with(suite: ct.Suite, decomposed: DecomposedTask, revision: str, x: torch.Tensor) -> np.ndarray:
    """logit(wrong) - logit(right) of each prompt, with activations x after block 0."""
    model = AutoModelForCausalLM.from_pretrained(suite[revision].source).eval()
    task, scores, start = decomposed.task, [], 0
    for ids, right, wrong in zip(task.prompts, task.right, task.wrong, strict=True):
        replacement = x[start : start + len(ids)].unsqueeze(0)
        start += len(ids)
        handle = model.gpt_neox.layers[0].register_forward_hook(lambda module, args, output, new=replacement: new)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        handle.remove()
        scores.append((logits[wrong] - logits[right]).item())
    return np.array(scores)
