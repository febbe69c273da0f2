"""The recipes that come with crosstime: TOML files in ``crosstime/recipes``."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from crosstime.errors import RecipeError
from crosstime.runs.recipe.overlay import Table, merge
from user_input.nearest import nearest
from user_input.reason import reason


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = files("crosstime") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def shipped_recipe_table(name: object) -> Table:
    """The tables of a shipped recipe, laid over those of the recipe that it extends.

    Raises:
        RecipeError: there is no such recipe; the sentence names the nearest.
    """
    if not isinstance(name, str) or name not in shipped_recipes():
        raise RecipeError(f"There is no recipe {name!r}: {nearest(str(name), shipped_recipes())}")
    text = (files("crosstime") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    table = parse_toml(text, f"recipe {name}")
    parent = table.pop("extends", None)
    return table if parent is None else merge(shipped_recipe_table(parent), table)


def parse_toml(text: str, where: str) -> Table:
    """The tables of a TOML text.

    Raises:
        RecipeError: it is not TOML; the sentence names `where`, and the line.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of too many digits raise plain ValueErrors
        raise RecipeError(f"{where} is not a TOML file: {reason(error)}.") from error
