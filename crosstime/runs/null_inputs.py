"""The inputs of a null model: those of a run with one thing changed, so that every stage is the same code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from crosstime.activations.null_batches import NullBatches
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.evolution.null_names import DECODERS, ENCODER, NOISE, PERMUTED, RANDOM, SAME
from crosstime.machine.dtypes import torch_dtype
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.repeated_inputs import RepeatedInputs, repeated_recipe
from crosstime.suites.null_suites import randomised_suite, same_checkpoint
from crosstime.suites.suite import Suite

_FROZEN = {ENCODER: "encoder", DECODERS: "decoder"}


@dataclass(frozen=True)
class NullModel:
    """One training of a null model.

    Attributes:
        kind: one of `crosstime.evolution.null_names.NULLS`.
        seed: added to the seeds of the run; 0 keeps them.
        checkpoint: the checkpoint that the same-checkpoint nulls repeat; None: the last of those that are compared.
    """

    kind: str
    seed: int = 0
    checkpoint: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.kind}-{self.seed}"

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe of a run with the changes of this null model; see `repeated_recipe`."""
        table = recipe.crosscoder
        return repeated_recipe(recipe, {"seed": table.seed + self.seed, "frozen": _FROZEN.get(self.kind, table.frozen)})


class NullInputs(RepeatedInputs):
    """The inputs of a null model.

    Args:
        original: the inputs of the run.
        null: the null model.
        folder: the folder of the null model.
    """

    def __init__(self, original: Inputs, null: NullModel, folder: RunFolder) -> None:
        super().__init__(original, null.recipe(original.recipe), folder)
        self.null = null

    @cached_property
    def compared(self) -> Suite:
        """The compared checkpoints: one of them under every name, or with re-randomised weights, or as they are."""
        compared = self.original.compared
        if self.null.kind in (SAME, NOISE):
            return same_checkpoint(compared, self._repeated)
        if self.null.kind != RANDOM:
            return compared
        return randomised_suite(
            compared,
            self.folder.path / f"suite-{compared.fingerprint}",
            seed=self.recipe.seed + self.null.seed,
            dtype=torch_dtype(self.compute.dtype),
        )

    @property
    def null_batches(self) -> NullBatches | None:
        """Permuted tokens, or noise of the size of the error term, or nothing."""
        seed = self.recipe.seed + self.null.seed
        if self.null.kind == PERMUTED:
            return NullBatches(permuted=True, seed=seed)
        if self.null.kind == NOISE:
            deviation = self._error_deviation
            return NullBatches(noise=(deviation,) * len(self.compared), seed=seed)
        return None

    @property
    def _repeated(self) -> str:
        """The checkpoint that all names stand for."""
        return self.null.checkpoint or self.original.compared.revisions[-1]

    @cached_property
    def _error_deviation(self) -> float:
        """Root mean square of the run's error term at the repeated checkpoint, per dimension, in the model's scale."""
        folder = self.original.folder
        error = folder.table("evaluation").set_index("revision").error[self._repeated]
        crosscoder: CrossCoder = folder.crosscoder
        scale = crosscoder.scales[crosscoder.origin.revisions.index(self._repeated)].item()
        return float((error / crosscoder.origin.d_model) ** 0.5) / scale
