"""JSON from files that anybody may have written: parsed within limits, or refused in words."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

from user_input.first_line import first_line

LONGEST = 1 << 28
"""Most characters of one JSON text, and most bytes of one line of a data file."""
DEEPEST = 100
"""Most brackets inside one another: what is deeper than that also fails whoever walks through it later."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonError(ValueError):
    """A text that is no JSON, or more of it than is read; it says why, not where."""


def parse_json(text: str) -> Any:
    """The value that a JSON text stands for: `json.loads`, with one kind of error and limits on size and depth.

    Raises:
        JsonError: no JSON; more than `LONGEST` characters or `DEEPEST` brackets inside one another; a number of more
            digits than Python reads; half of a character that is written as two (``"\\ud800"``), which is no text.

    Examples:
        >>> parse_json('{"text": "one"}')
        {'text': 'one'}
        >>> parse_json("[1, 2")
        Traceback (most recent call last):
        user_input.parse_json.JsonError: Expecting ',' delimiter at column 7
    """
    if len(text) > LONGEST:
        raise JsonError(f"longer than the {LONGEST:,} characters that are read")
    if _depth(text) > DEEPEST:
        raise JsonError(f"more than {DEEPEST} brackets inside one another")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text.strip() else ""
        raise JsonError(f"{error.msg.removesuffix(' at')} at {line}column {error.colno}") from error
    except ValueError as error:
        raise JsonError(first_line(error).partition(";")[0]) from error
    except RecursionError as error:  # fewer brackets than `DEEPEST` do that where little of the stack is left
        raise JsonError("too many brackets inside one another") from error
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise JsonError("half of a character in a text") from error
    return value


def _depth(text: str) -> int:
    """How many brackets are open at once, at most; those in strings do not count."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return 0
    steps = (1 if mark in "[{" else -1 for mark in _BRACKET.findall(_STRING.sub("", text)))
    return max(accumulate(steps), default=0)
