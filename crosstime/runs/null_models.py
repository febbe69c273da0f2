"""Null models of a finished run: what the same stages claim where there is nothing to find."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from crosstime.errors import CrosstimeError, RunError
from crosstime.evolution.null_names import DEFAULT_KINDS
from crosstime.runs.folder import RunFolder
from crosstime.runs.manifest import read_manifest
from crosstime.runs.recipe.null import NullRecipe
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.run import run
from crosstime.runs.stages.null import NULLS
from crosstime.runs.status import status
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
    recipe = replace(_recorded_recipe(path), null=table)
    _refuse_unfinished(path)
    result = run(replace(recipe, name=path.resolve().name), path.resolve().parent, announce=announce)
    return RunFolder(result.folder).table(NULLS)


def _recorded_recipe(folder: Path) -> Recipe:
    """The recipe of a run, from its manifest.

    Raises:
        RunError: there is no run, or its recipe is not one of this version.
    """
    recorded = read_manifest(folder).get("recipe")
    advice = "add the table [null] to its recipe, and run that"
    if not isinstance(recorded, dict):
        raise RunError(f"the manifest of {folder} has no recipe: {advice}")
    try:
        recipe = Recipe.of(_without_none(recorded), where=f"the recipe of {folder}")
    except CrosstimeError as error:
        raise RunError(f"{error} It was recorded by another version: {advice}") from error
    # The same recipe, or stages of the run would be repeated
    if not _agrees(recorded, json.loads(json.dumps(recipe.to_dict(), default=str))):
        raise RunError(f"the recipe of {folder} cannot be read back from its manifest: {advice}")
    return recipe


def _refuse_unfinished(folder: Path) -> None:
    """Refuse a run of which a stage is not done; null models of an earlier command may be unfinished."""
    for stage in status(folder).stages:
        if stage.state != "done" and stage.name not in ("null", "report"):
            raise RunError(f"run {folder} is not finished, its stage {stage.name} is {stage.state}: finish it first")


def _without_none(value: Any) -> Any:
    """Plain values without the keys whose value is None, which TOML does not have."""
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _agrees(recorded: object, rebuilt: object) -> bool:
    """Whether every recorded value is that of the recipe; keys that a newer version added may be missing."""
    if isinstance(recorded, dict) and isinstance(rebuilt, dict):
        return all(name in rebuilt and _agrees(value, rebuilt[name]) for name, value in recorded.items())
    return recorded == rebuilt
