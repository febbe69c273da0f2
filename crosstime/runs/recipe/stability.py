"""The table of a recipe about the stability of effects: ``[stability]``."""

from __future__ import annotations

from dataclasses import dataclass, field

from crosstime.effects.stability_options import Stability
from crosstime.runs.recipe.limits import at_least


@dataclass(frozen=True)
class StabilityRecipe(Stability):
    """What the effects of a run are compared over, to see whether the strongest features stay the same.

    The keys of `Stability` (k, prompts), and these; see docs/guides/stability.md.

    Attributes:
        comparisons: of `crosstime.effects.stability_options.COMPARISONS`; empty: none.
        resamples: number of resamples and splits of the prompts.

    Raises:
        CrosscoderError: there is no such comparison, one is named twice, or a value is out of range.
        RecipeError: no resamples.
    """

    comparisons: list[str] = field(default_factory=list)
    resamples: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, resamples=1)
