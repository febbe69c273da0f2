"""The inputs of another seed: those of a run with the crosscoder that was trained beside that of the run."""

from __future__ import annotations

from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.recipe.baselines import BaselinesRecipe
from crosstime.runs.recipe.null import NullRecipe
from crosstime.runs.repeated_inputs import RepeatedInputs, repeated_recipe


class SeedInputs(RepeatedInputs):
    """The inputs of another seed.

    Args:
        original: the inputs of the run.
        seed: the seed, one of ``crosscoder.seeds``.
        folder: the folder of the run.
    """

    def __init__(self, original: Inputs, seed: int, folder: RunFolder) -> None:
        # Null models and baselines are those of the run, and cannot stand beside a crosscoder that exists
        source = str(folder.path / folder.seed_file(seed))
        recipe = repeated_recipe(
            original.recipe, {"seed": seed, "source": source}, null=NullRecipe(), baselines=BaselinesRecipe()
        )
        super().__init__(original, recipe, RunFolder(folder.path / folder.SEEDS / str(seed)))
