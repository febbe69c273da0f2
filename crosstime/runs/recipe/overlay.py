"""Nested tables that are laid over others: a recipe over the one that it extends, and single keys over a recipe."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from crosstime.errors import RecipeError

Table = dict[str, Any]
"""A table as TOML gives it: texts, numbers, truth values, lists and tables by their keys."""


def copy_table(table: Mapping[str, Any]) -> Table:
    """A deep copy of nested tables and lists, so that the caller's are not changed."""
    return {key: _copy(value) for key, value in table.items()}


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Table:
    """A copy of nested tables in which the keys of others replace those of the same name; lists are replaced whole.

    Examples:
        >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
        {'a': {'x': 1, 'y': 3}}
    """
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged


def override(table: Table, assignment: str) -> None:
    """Change one key of nested tables in place: ``table.key=value``, with a TOML value or a bare word.

    Raises:
        RecipeError: the assignment is not of that form, or names no key.

    Examples:
        >>> table = {"crosscoder": {"steps": 5}}
        >>> override(table, "crosscoder.steps=7")
        >>> table
        {'crosscoder': {'steps': 7}}
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path.strip():
        raise RecipeError(f"An override (--set) is written table.key=value; got {assignment!r}.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # a bare word is a text
        value = text.strip()

    # Walk down to the table of the key
    *outer, key = path.strip().split(".")
    target: Any = table
    for name in outer:
        if isinstance(target, list):
            target = _item(target, name, assignment)
        elif isinstance(target, dict):
            target = target.setdefault(name, {})

    if not isinstance(target, dict):
        raise RecipeError(f"Override {assignment!r} does not name a key of a table.")
    target[key] = value


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return copy_table(value)
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _item(items: list[Any], index: str, assignment: str) -> Any:
    """The item of a list that an override names by its index."""
    if not index.isdecimal() or int(index) >= len(items):
        raise RecipeError(f"Override {assignment!r}: a list of {len(items)} has no item {index!r}; count from 0.")
    return items[int(index)]
