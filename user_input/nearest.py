"""Which names are allowed, and which of them was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(given: str, allowed: Iterable[str], *, most: int = 12) -> str:
    """Say which names are allowed and which of them the caller may have meant.

    Returns the end of a sentence: ``"did you mean 'a'? Allowed: a, b, c."``; at most `most` names
    are listed.

    Examples:
        >>> nearest("simpel", ["simple", "nounpp"])
        "did you mean 'simple'? Allowed: nounpp, simple."
    """
    names = sorted(set(allowed))
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    listed = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return (f"did you mean {close[0]!r}? " if close else "") + f"Allowed: {listed or 'nothing'}."
