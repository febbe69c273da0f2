"""The inputs of another seed: those of a run with the crosscoder that was trained beside that of the run."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.recipe.baselines import BaselinesRecipe
from crosstime.runs.recipe.null import NullRecipe
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from tasks import TokenizedTask


class SeedInputs(Inputs):
    """The inputs of another seed; no text is read for kinds of features.

    Args:
        original: the inputs of the run.
        seed: the seed, one of ``crosscoder.seeds``.
        folder: the folder of the run.
    """

    def __init__(self, original: Inputs, seed: int, folder: RunFolder) -> None:
        recipe = original.recipe
        crosscoder = replace(
            recipe.crosscoder, seeds=[], seed=seed, source=str(folder.path / folder.seed_file(seed)), loggers=[]
        )
        # Null models and baselines are those of the run, and cannot stand beside a crosscoder that exists
        evolve = replace(recipe.evolve, text=False, languages={})
        self.recipe = replace(
            recipe, crosscoder=crosscoder, evolve=evolve, null=NullRecipe(), baselines=BaselinesRecipe()
        )
        self.original, self.folder = original, RunFolder(folder.path / folder.SEEDS / str(seed))
        self.tasks = original.tasks
        self._decomposed: dict[int, DecomposedTask] = {}

    @cached_property
    def suite(self) -> Suite:
        """The suite of the run."""
        return self.original.suite

    @cached_property
    def compared(self) -> Suite:
        """The compared checkpoints of the run."""
        return self.original.compared

    @cached_property
    def compute(self) -> Compute:
        """Where the checkpoints of the run are run."""
        return self.original.compute

    @cached_property
    def tokenized(self) -> list[TokenizedTask]:
        """The prompts of the run."""
        return self.original.tokenized
