"""The table of a recipe about indirect effects: ``[effects]``."""

from __future__ import annotations

from dataclasses import dataclass

from crosstime.runs.recipe.limits import at_least
from interventions import Bootstrap, Estimator


@dataclass(frozen=True)
class EffectsRecipe(Estimator):
    """How effects are estimated, and which features are selected by them; see `crosstime.attribute`.

    The keys of `Estimator` (method, baseline, metric, quadrature, steps, tolerance), and these.

    Attributes:
        top: features that are selected at each checkpoint and task, by |IE|.
        resamples: number of resamples of the bootstrap over prompts.
    """

    top: int = 10
    resamples: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, top=1, resamples=1)

    def bootstrap(self, seed: int) -> Bootstrap:
        """The bootstrap over prompts."""
        return Bootstrap(self.resamples, seed)
