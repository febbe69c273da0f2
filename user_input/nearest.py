"""A hint for a misspelt name: the most similar allowed name, and all allowed names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from user_input.first_names import first_names


def nearest(name: str, allowed: Iterable[str], *, most: int = 12) -> str:
    """Return the end of an error message about a name that is not allowed.

    Args:
        name: the name that the user gave.
        allowed: the names that are allowed.
        most: list at most so many of them.

    Examples:
        >>> nearest("simpel", ["simple", "nounpp"])
        "did you mean 'simple'? Allowed: nounpp, simple."
    """
    names = sorted(set(allowed))
    similar = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = first_names(names, most)
    return (f"did you mean {similar[0]!r}? " if similar else "") + f"Allowed: {listed or 'nothing'}."


def similar(name: str, present: Iterable[str]) -> str:
    """Return the end of an error message about a file that is not there, which names a similar one if there is one.

    The other names are not listed: the folder may be a home folder, and the message end in a report or a log.

    Args:
        name: the name that the user gave.
        present: the names that are there.

    Examples:
        >>> similar("pairs.json", ["pairs.jsonl", "letters.txt"])
        "did you mean 'pairs.jsonl'?"
        >>> similar("pairs.json", ["letters.txt"])
        'check the path'
    """
    names = difflib.get_close_matches(name, sorted(set(present)), n=1, cutoff=0.5)
    return f"did you mean {names[0]!r}?" if names else "check the path"


def similar_beside(path: Path) -> str:
    """Return the end of an error message about a path that is not there, which names a similar one in its folder.

    Examples:
        >>> similar_beside(Path("/nowhere/pairs.json"))
        'check the path'
    """
    try:
        present = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        present = []
    return similar(path.name, present)
