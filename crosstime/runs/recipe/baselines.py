"""The table of a recipe about baselines of the crosscoder: ``[baselines]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crosstime.crosscoders.baselines.names import BASELINE_NAMES, CHAIN, DIFFERENCES, TRANSFERRED
from crosstime.errors import RecipeError
from crosstime.runs.recipe.limits import at_least, not_empty
from user_input.nearest import nearest

TRAINED, CUT_OUT = "train", "crosscoder"
"""Words of the key `sae` in place of a path."""


@dataclass(frozen=True)
class BaselinesRecipe:
    """Dictionaries that the crosscoder is compared with; see docs/guides/baselines.md.

    Attributes:
        names: baselines, of `crosstime.crosscoders.baselines.names.BASELINE_NAMES`; empty: none.
        sizes: numbers n of features, in ascending order; the largest is the upper end of the areas.
        prompts: upper bound of the prompts of each task, of which one half ranks features and the other tests them.
        sae: the sparse autoencoder that is applied to all checkpoints: ``train`` trains it on one checkpoint with the
            settings of the crosscoder, ``crosscoder`` cuts it out of the crosscoder, and a path names a file in any
            format of `crosstime.exchange`.
        checkpoint: the checkpoint of that autoencoder, which must be compared; default: the last.

    Raises:
        RecipeError: there is no such baseline, one is named twice, or a value is out of range.
    """

    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=lambda: [1, 2, 5, 10, 20, 50, 100])
    prompts: int = 200
    sae: str = TRAINED
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in BASELINE_NAMES:
                raise RecipeError(f"names: there is no baseline dictionary {name!r}: {nearest(name, BASELINE_NAMES)}")
            if self.names.count(name) > 1:
                raise RecipeError(f"names: baseline {name!r} is there twice.")
        at_least(self, prompts=4)
        not_empty(self, sae=f"'{TRAINED}', '{CUT_OUT}' or the file of an autoencoder")
        if not self.sizes or self.sizes != sorted(set(self.sizes)) or self.sizes[0] < 1:
            raise RecipeError(f"sizes must be ascending whole numbers of at least 1, not {self.sizes}.")

    @property
    def transferred(self) -> bool:
        """Whether the autoencoder of one checkpoint is applied to the others."""
        return bool(set(self.names) & set(TRANSFERRED))

    @property
    def sae_file(self) -> str | None:
        """Path of the autoencoder; None if it is not read from a file."""
        return self.sae if self.transferred and self.sae not in (TRAINED, CUT_OUT) else None

    @property
    def trains(self) -> bool:
        """Whether an autoencoder is trained."""
        return CHAIN in self.names or (self.transferred and self.sae == TRAINED)

    def refuse_unknown(self, compared: Sequence[str] | None, feature_shards: int) -> None:
        """Refuse a checkpoint that the recipe does not compare, and what a single one or divided features cannot have.

        Args:
            compared: the crosscoder's checkpoints; None if they are not chosen yet.
            feature_shards: processes among which the features are divided in training.

        Raises:
            RecipeError: the sentence says what to change; for a checkpoint it names the nearest.
        """
        if self.trains and feature_shards > 1:
            raise RecipeError(
                f"baselines: autoencoders are trained with compute.feature_shards = 1, not {feature_shards}; name a "
                f"file with baselines.sae, and leave out {CHAIN}."
            )
        if compared is None:
            return
        if DIFFERENCES in self.names and len(compared) < 2:
            raise RecipeError(
                f"baselines.names: {DIFFERENCES} needs at least two compared checkpoints, and this recipe has one."
            )
        if self.checkpoint is not None and self.checkpoint not in compared:
            raise RecipeError(
                f"baselines.checkpoint: {self.checkpoint!r} is not compared: {nearest(self.checkpoint, compared)}"
            )
