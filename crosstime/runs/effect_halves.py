"""The two halves of the prompts of a run: one on which features are selected, and one on which they are tested."""

from __future__ import annotations

from crosstime.effects.attribution import Attribution
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs


def effect_halves(inputs: Inputs, folder: RunFolder, task: int) -> tuple[Attribution, Attribution]:
    """The effects on the prompts of the selection, and on those of the test; the same in all stages.

    If the recipe has ``effects.halves = false``, both are the effects on all prompts.

    Args:
        inputs: the inputs of the run.
        folder: the run's folder, with the effects of the stage `attribute`.
        task: index of the task in the recipe.
    """
    attribution = folder.attribution(task, inputs.decomposed(task, folder.crosscoder))
    return attribution.selection_and_test(halves=inputs.recipe.effects.halves, seed=inputs.recipe.seed)
