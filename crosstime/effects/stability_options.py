"""What a test of the stability of effects compares, so that it can be checked without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosstime.effects.least_prompts import LEAST_PROMPTS
from crosstime.errors import CrosscoderError
from user_input.nearest import nearest

PROMPTS, TEMPLATES, METRIC, BASELINE, ESTIMATOR, DTYPE = COMPARISONS = (
    "prompts",
    "templates",
    "metric",
    "baseline",
    "estimator",
    "dtype",
)
"""What effects are compared over; `prompts` and `templates` need no pass of a model beyond the effects themselves."""
REPEATED = (METRIC, BASELINE, ESTIMATOR, DTYPE)
"""Comparisons for which effects are computed again."""


@dataclass(frozen=True)
class Stability:
    """Options of `effect_stability`: the comparisons, the number of features, and the number of prompts.

    Attributes:
        comparisons: of `COMPARISONS`: resampled and split prompts, templates of the task, the other metrics, the other
            baselines, other methods and numbers of nodes, the other precision.
        k: number of features with the largest |IE| at a checkpoint that should be the same.
        prompts: upper bound of the prompts on which effects are computed again.

    Raises:
        CrosscoderError: an unknown comparison or one that is there twice, k below 1, or fewer than four prompts.

    Examples:
        >>> Stability(comparisons=["prompts", "dtype"]).k
        10
    """

    comparisons: Sequence[str] = COMPARISONS
    k: int = 10
    prompts: int = 64

    def __post_init__(self) -> None:
        for name in self.comparisons:
            if name not in COMPARISONS:
                raise CrosscoderError(f"comparisons: there is no comparison {name!r}: {nearest(name, COMPARISONS)}")
            if list(self.comparisons).count(name) > 1:
                raise CrosscoderError(f"comparisons: {name!r} is there twice.")
        if self.k < 1:
            raise CrosscoderError(f"k must be at least 1, not {self.k}.")
        if self.prompts < LEAST_PROMPTS:
            raise CrosscoderError(f"prompts must be at least {LEAST_PROMPTS}, not {self.prompts}.")
