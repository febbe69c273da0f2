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
        raise RecipeError(f"{where} is not a TOML file: {_with_line(reason(error), text)}.") from error


def _with_line(message: str, text: str) -> str:
    """The message of tomllib, with the line where it names none: of a value without end, of a number without end."""
    if "(at line " in message:
        return message

    # What is wrong begins after the longest beginning of the file that is right
    lines = text.replace("\r\n", "\n").rstrip().split("\n")
    first = next(count for count in range(len(lines) - 1, -1, -1) if _is_toml("\n".join(lines[:count]))) + 1
    if (end := "(at end of document)") not in message:
        return f"{message} (in line {first})"
    begins = f"; it begins in line {first}" if first < len(lines) else ""
    return message.replace(end, f"(at line {len(lines)}, the end of the document{begins})")


def _is_toml(text: str) -> bool:
    """Whether a text is TOML."""
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
