"""Scores of bare models, one prompt at a time, with activations replaced by a forward hook."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import crosstime as ct
from crosstime.crosscoders.decompose import DecomposedTask


def scores_with(suite: ct.Suite, decomposed: DecomposedTask, revision: str, x: torch.Tensor) -> np.ndarray:
    """logit(wrong) - logit(right) of each prompt of a task, with activations x after block 0."""
    task = decomposed.task
    return scores_of(suite, revision, list(zip(task.prompts, task.right, task.wrong, strict=True)), x)


def scores_of(
    suite: ct.Suite, revision: str, prompts: Sequence[tuple[Sequence[int], int, int]], x: torch.Tensor
) -> np.ndarray:
    """The same for prompts with their right and wrong answers."""
    model = AutoModelForCausalLM.from_pretrained(suite[revision].source).eval()
    scores, start = [], 0
    for ids, right, wrong in prompts:
        replacement = x[start : start + len(ids)].unsqueeze(0)
        start += len(ids)
        handle = model.base_model.layers[0].register_forward_hook(lambda module, args, output, new=replacement: new)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        handle.remove()
        scores.append((logits[wrong] - logits[right]).item())
    return np.array(scores)
