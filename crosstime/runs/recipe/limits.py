"""Checks that tables of a recipe share: a least value, a set of allowed words, and what must not be empty."""

from __future__ import annotations

from collections.abc import Collection

from crosstime.errors import RecipeError
from user_input.nearest import nearest


def at_least(table: object, **least: int) -> None:
    """Refuse attributes that are smaller than allowed; None is accepted.

    Raises:
        RecipeError: the sentence names the attribute and the least value.
    """
    for name, lowest in least.items():
        value = getattr(table, name)
        if value is not None and value < lowest:
            raise RecipeError(f"{name} must be at least {lowest}, not {value}.")


def one_of(table: object, **allowed: Collection[str]) -> None:
    """Refuse attributes that are not among the allowed words; None is accepted.

    Raises:
        RecipeError: the sentence names the nearest allowed word.
    """
    for name, words in allowed.items():
        value = getattr(table, name)
        if value is not None and value not in words:
            raise RecipeError(f"there is no {name} {value!r}: {nearest(value, words)}")


def share(table: object, *names: str) -> None:
    """Refuse attributes that do not lie between 0 and 1.

    Raises:
        RecipeError: the sentence names the attribute.
    """
    for name in names:
        value = getattr(table, name)
        if not 0 <= value <= 1:
            raise RecipeError(f"{name} must lie between 0 and 1, not {value}.")


def not_empty(table: object, **nouns: str) -> None:
    """Refuse attributes that are an empty text or list, which names nothing; None is accepted.

    Args:
        table: the table.
        nouns: what each attribute names.

    Raises:
        RecipeError: the sentence names the attribute and what it must be.
    """
    for name, noun in nouns.items():
        value = getattr(table, name)
        if value is not None and not value:
            raise RecipeError(f"{name} must be {noun}, not {value!r}.")
