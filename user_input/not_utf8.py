"""Why bytes are not UTF-8 text, with the line of the first one that is not."""

from __future__ import annotations


def not_utf8(error: UnicodeDecodeError) -> str:
    """Return the reason why a file is not UTF-8 text, for a sentence that names the file.

    Examples:
        >>> try:
        ...     b"one\\ntwo \\xff".decode("utf-8")
        ... except UnicodeDecodeError as error:
        ...     print(not_utf8(error))
        line 2 is not UTF-8 text: invalid start byte
    """
    line = error.object.count(b"\n", 0, error.start) + 1
    return f"line {line} is not UTF-8 text: {error.reason}"
