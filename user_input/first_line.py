"""The first line of an error's text, to quote in a sentence."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of what an error says, to be a part of a sentence; its class where it says nothing.

    Examples:
        >>> first_line(OSError("no route to host.\\nMore of it."))
        'no route to host'
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
