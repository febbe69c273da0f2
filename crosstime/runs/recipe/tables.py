"""Nested tables, as TOML gives them, to a recipe's dataclasses: strictly, so that a mistyped key is an error."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from crosstime.errors import CrosstimeError, RecipeError
from crosstime.runs.recipe.crosscoder import CrosscoderRecipe, recipe_of_kind
from user_input.nearest import nearest


def build(cls: type, table: Any, where: str, key: str = "") -> Any:
    """Make a dataclass of a table, its fields' tables included.

    Args:
        cls: the dataclass.
        table: plain values.
        where: the recipe's name or file, for errors.
        key: of the table in the recipe; empty for the whole of it.

    Raises:
        RecipeError: a key that is unknown or missing, or a value that is not allowed; the sentence names the key.

    Examples:
        >>> from crosstime.runs.recipe.recipe import CompareRecipe
        >>> build(CompareRecipe, {"site": "resid.1"}, "example").site
        'resid.1'
    """
    if not isinstance(table, Mapping):
        raise RecipeError(f"{where}: {key or 'the file'} must be a table, not {_shown(table)}.")
    if cls is CrosscoderRecipe:
        try:
            cls, table = recipe_of_kind(table)
        except CrosstimeError as error:
            raise RecipeError(f"{where}: [{key}] {error}") from error
    known = {each.name: each for each in dataclasses.fields(cls) if each.init}
    hints = typing.get_type_hints(cls)
    for name in table:
        if name not in known:
            place = f"[{key}]" if key else "the top level"
            raise RecipeError(f"{where}: {place} has no key {name!r}: {nearest(name, known, most=40)}")
    for name, each in known.items():
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise RecipeError(f"{where}: {f'[{key}] needs' if key else 'needs'} a key {name!r}.")
    values = {
        name: _value(hints[name], value, where, f"{key}.{name}" if key else name) for name, value in table.items()
    }
    try:
        return cls(**values)
    except CrosstimeError as error:
        place = f"[{key}] " if key else ""
        raise RecipeError(f"{where}: {place}{error}") from error


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where, key)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in arguments if option is not type(None)]
        if len(options) == 1:
            return _value(options[0], value, where, key)
        fitting = [option for option in options if isinstance(value, typing.get_origin(option) or option)]
        return _value(fitting[0] if fitting else options[0], value, where, key)
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise RecipeError(f"{where}: {key} must be a list, not {_shown(value)}.")
        return origin(_value(arguments[0], item, where, f"{key}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise RecipeError(f"{where}: {key} must be a table, not {_shown(value)}.")
        return {name: _value(arguments[1], item, where, f"{key}.{name}") for name, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        kind = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[hint]
        raise RecipeError(f"{where}: {key} must be {kind}, not {_shown(value)}.")
    if hint is float and not math.isfinite(value):
        raise RecipeError(f"{where}: {key} must be a finite number, not {value}.")
    if hint is int and not -(2**63) <= value < 2**63:
        raise RecipeError(f"{where}: {key} must fit in 64 bits; got {_shown(value)}.")
    return value


def _shown(value: Any) -> str:
    """A value as the file has it; a number of thousands of digits, which Python does not write out, in words."""
    try:
        return repr(value)
    except ValueError:
        return "a number without end"


def at_least(table: Any, **least: int) -> None:
    """Refuse attributes that are smaller than they may be; None is no number.

    Raises:
        RecipeError: the sentence names the attribute and the least that it may be.
    """
    for name, lowest in least.items():
        value = getattr(table, name)
        if value is not None and value < lowest:
            raise RecipeError(f"{name} must be at least {lowest}, not {value}.")


def one_of(table: Any, **allowed: Iterable[str]) -> None:
    """Refuse attributes that are none of the allowed words; None is no word.

    Raises:
        RecipeError: the sentence names the nearest.
    """
    for name, values in allowed.items():
        value = getattr(table, name)
        if value is not None and value not in values:
            raise RecipeError(f"there is no {name} {value!r}: {nearest(value, values)}")


def copied(table: Any) -> Any:
    """Tables and lists anew, so that the caller's stay as they are."""
    if isinstance(table, Mapping):
        return {key: copied(value) for key, value in table.items()}
    return [copied(item) for item in table] if isinstance(table, list) else table


def override(table: dict[str, Any], text: str) -> None:
    """Change one key of nested tables in place: ``table.key=value`` with a TOML value, or a bare word.

    Raises:
        RecipeError: it is not of that form, or names no key.

    Examples:
        >>> table = {"crosscoder": {"steps": 5}}
        >>> override(table, "crosscoder.steps=7")
        >>> table
        {'crosscoder': {'steps': 7}}
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"An override is written table.key=value; got {text!r}.")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        parsed = value.strip()
    *tables, last = key.strip().split(".")
    place: Any = table
    for name in tables:
        if isinstance(place, list):
            place = _item(place, name, text)
        elif isinstance(place, dict):
            place = place.setdefault(name, {})
    if not isinstance(place, dict):
        raise RecipeError(f"Override {text!r} does not name a key of a table.")
    place[last] = parsed


def _item(items: list[Any], name: str, text: str) -> Any:
    if not name.isdecimal() or int(name) >= len(items):
        raise RecipeError(f"Override {text!r}: a list of {len(items)} has no item {name!r}; count from 0.")
    return items[int(name)]


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's tables with another's laid over them; lists are replaced as a whole.

    Examples:
        >>> merged({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
        {'a': {'x': 1, 'y': 3}}
    """
    out = dict(base)
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(out.get(name), Mapping)
        out[name] = merged(out[name], value) if both else value
    return out
