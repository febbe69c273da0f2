"""The table of a recipe about null models: ``[null]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crosstime.errors import RecipeError
from crosstime.evolution.null_names import NULLS
from crosstime.runs.recipe.limits import at_least
from user_input.nearest import nearest


@dataclass(frozen=True)
class NullRecipe:
    """Null models of a run: the same stages under an input in which there is nothing to find; see docs/guides/nulls.md.

    Attributes:
        kinds: null models, of `crosstime.evolution.null_names.NULLS`; empty: none.
        seeds: trainings of each null model; the first has the seeds of the run.
        checkpoint: the compared checkpoint that the same-checkpoint nulls repeat; default: the last.
        level: level of the intervals.

    Raises:
        RecipeError: there is no such null model, one is named twice, or a value is out of range.
    """

    kinds: list[str] = field(default_factory=list)
    seeds: int = 1
    checkpoint: str | None = None
    level: float = 0.95

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in NULLS:
                raise RecipeError(f"kinds: there is no null model {kind!r}: {nearest(kind, NULLS)}")
            if self.kinds.count(kind) > 1:
                raise RecipeError(f"kinds: null model {kind!r} is there twice.")
        at_least(self, seeds=1)
        if not 0 < self.level < 1:
            raise RecipeError(f"level must lie between 0 and 1, not {self.level}.")

    def refuse_unknown(self, compared: Sequence[str] | None) -> None:
        """Refuse a checkpoint that the recipe does not compare, and null models of a single checkpoint.

        Args:
            compared: the crosscoder's checkpoints; None if they are not chosen yet.

        Raises:
            RecipeError: the sentence names the nearest checkpoint.
        """
        if compared is None:
            return
        if self.kinds and len(compared) < 2:
            raise RecipeError(
                "null.kinds: null models need at least two compared checkpoints, and this recipe has one."
            )
        if self.checkpoint is not None and self.checkpoint not in compared:
            raise RecipeError(
                f"null.checkpoint: {self.checkpoint!r} is not compared: {nearest(self.checkpoint, compared)}"
            )
