"""The first line of an error's message, to quote it in a sentence."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its full stop, or the error's class if it has no message.

    Examples:
        >>> first_line(OSError("no route to host.\\nMore of it."))
        'no route to host'
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
