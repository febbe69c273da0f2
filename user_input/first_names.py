"""The first names of a list, and how many more there are, for messages."""

from __future__ import annotations

from collections.abc import Sequence


def first_names(names: Sequence[object], most: int = 5, *, separator: str = ", ") -> str:
    """Return the first names of a list, and how many more there are.

    Args:
        names: what is listed.
        most: list at most so many of them.
        separator: what stands between two of them.

    Examples:
        >>> first_names(["step0", "step1", "step2"], most=2)
        'step0, step1 and 1 more'
        >>> first_names(["step0"])
        'step0'
    """
    listed = separator.join(map(str, names[:most]))
    return f"{listed} and {len(names) - most:,} more" if len(names) > most else listed
