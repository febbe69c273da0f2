"""Null models of a finished run: what the same stages claim where there is nothing to find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from crosstime.errors import RunError
from crosstime.evolution.null_names import DEFAULT_KINDS
from crosstime.runs.folder import RunFolder
from crosstime.runs.recipe.null import NullRecipe
from crosstime.runs.recorded_recipe import recorded_recipe, refuse_unfinished
from crosstime.runs.run import run
from crosstime.runs.stages.null import NULLS
from user_input.home import expanded


def null_models(
    folder: str | Path,
    kinds: Sequence[str] = DEFAULT_KINDS,
    *,
    seeds: int = 1,
    checkpoint: str | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Repeat a finished run under null models, and write how many of its claims they make as well.

    For each null model a crosscoder is trained, and its effects, life cycles and dips are computed, with the sizes and
    seeds of the run; only what the null model changes is other. The stages of the run itself are kept; its report is
    written again, with the expected number beside every count. A recipe with a table ``[null]`` does the same.

    Args:
        folder: the folder of the run.
        kinds: the null models, of `crosstime.evolution.null_names.NULLS`.
        seeds: trainings of each null model; several give intervals that include how much trainings differ.
        checkpoint: the compared checkpoint that the same-checkpoint nulls repeat; default: the last.
        announce: called with a line after each stage.

    Returns:
        The table ``nulls.csv`` of the run, see `crosstime.evolution.false_discoveries.false_discoveries`.

    Raises:
        RunError: the folder holds no run, or the run is not finished.
        RecipeError: there is no such null model, or the run cannot have it.

    Examples:
        >>> table = null_models("runs/demo", seeds=3)  # doctest: +SKIP
        >>> table[table.false][["source", "claim", "count", "expected", "low", "high"]]  # doctest: +SKIP
    """
    if not kinds:
        raise RunError("name at least one null model")
    table = NullRecipe(list(kinds), seeds, checkpoint)
    path = expanded(folder)
    recipe = replace(recorded_recipe(path, advice="add the table [null] to its recipe, and run that"), null=table)
    # Null models of an earlier command may be unfinished
    refuse_unfinished(path, ("null", "report"))
    result = run(replace(recipe, name=path.resolve().name), path.resolve().parent, announce=announce)
    return RunFolder(result.folder).table(NULLS)
