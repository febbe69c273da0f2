"""Two halves of a task's prompts: features are selected on one, and tested on the other."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.effects.least_prompts import LEAST_PROMPTS
from crosstime.errors import CrosscoderError
from interventions import Effects


def halves(
    decomposed: DecomposedTask, most: int | None, generator: torch.Generator
) -> tuple[Int[Tensor, " R"], Int[Tensor, " S"]]:
    """Two random halves of a task's prompts; of the second half at most `most`, in ascending order.

    Raises:
        CrosscoderError: there are fewer than four prompts.
    """
    n_prompts = len(decomposed.prompts)
    if n_prompts < LEAST_PROMPTS:
        raise CrosscoderError(
            f"Task {decomposed.task.name} has {n_prompts} prompts; two halves need at least {LEAST_PROMPTS}."
        )
    order = torch.randperm(n_prompts, generator=generator)
    return order[: n_prompts // 2], order[n_prompts // 2 :][:most].sort().values


def mean_effect(effects: Effects, rows: Int[Tensor, " R"]) -> Float[Tensor, " F"]:
    """Indirect effect of every feature, as the mean over these prompts."""
    selected = torch.zeros(len(effects.clean), dtype=torch.bool)
    selected[rows] = True
    entries = selected[effects.prompt]
    sums = torch.zeros(effects.n_features, dtype=torch.float64)
    return sums.index_add(0, effects.feature[entries], effects.value[entries].double()) / len(rows)
