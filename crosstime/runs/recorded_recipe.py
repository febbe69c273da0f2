"""The recipe of a finished run, read back from its manifest, for what is added to the run afterwards."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from crosstime.errors import CrosstimeError, RunError
from crosstime.runs.manifest import read_manifest
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.status import status


def recorded_recipe(folder: Path, *, advice: str) -> Recipe:
    """The recipe of a run, from its manifest.

    Args:
        folder: the folder of the run.
        advice: what to do where this is not possible, for the errors.

    Raises:
        RunError: there is no run, or its recipe is not one of this version.
    """
    recorded = read_manifest(folder).get("recipe")
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


def refuse_unfinished(folder: Path, but: Collection[str]) -> None:
    """Refuse a run of which a stage is not done.

    Args:
        folder: the folder of the run.
        but: names of stages that need not be done.

    Raises:
        RunError: there is no run, or another stage is not done.
    """
    for stage in status(folder).stages:
        if stage.state != "done" and stage.name not in but:
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
