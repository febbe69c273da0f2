"""The inputs of stages that are repeated for a run: those of the run, with a recipe and a folder of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.recipe.recipe import Recipe
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from tasks import TokenizedTask


class RepeatedInputs(Inputs):
    """The inputs of null models and of other seeds, which change one thing of a run; see `crosstime.runs.repeat`.

    Args:
        original: the inputs of the run.
        recipe: the recipe of the repetition.
        folder: its folder.
    """

    def __init__(self, original: Inputs, recipe: Recipe, folder: RunFolder) -> None:
        self.original, self.recipe, self.folder = original, recipe, folder
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


def repeated_recipe(recipe: Recipe, crosscoder: Mapping[str, Any], **tables: Any) -> Recipe:
    """The recipe of a run for one crosscoder, without loggers, kinds of features, and languages.

    Args:
        recipe: the recipe of the run.
        crosscoder: values of ``[crosscoder]`` that differ.
        tables: other tables that differ; all changes are made at once, because tables are checked together.
    """
    table = replace(recipe.crosscoder, seeds=[], loggers=[], **crosscoder)
    return replace(recipe, crosscoder=table, evolve=replace(recipe.evolve, kinds=False, languages={}), **tables)
