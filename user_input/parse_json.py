"""JSON from files of unknown origin: parsed within limits, or rejected with a short reason."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

from user_input.reason import reason

MAX_LENGTH = 1 << 28
"""Upper bound on the characters of a JSON text, and on the bytes of one line of a data file."""
MAX_DEPTH = 100
"""Upper bound on nested brackets, because recursive functions fail on deeper values."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonError(ValueError):
    """A text is not JSON, or exceeds the limits. The message gives the reason; the caller knows the file."""


def parse_json(text: str, *, is_file: bool = False) -> Any:
    """Parse a JSON text like `json.loads`, with one class of errors and limits on size and depth.

    A byte order mark before the text, as editors on Windows write it, is left out.

    Args:
        text: the text.
        is_file: whether it is a whole file, so that errors name a line of it even if it has one only; the caller knows
            the line of a text in a line of a file.

    Raises:
        JsonError: the text is not JSON, has more than `MAX_LENGTH` characters or `MAX_DEPTH` nested brackets, a number
            with more digits than Python parses, or an unpaired surrogate (``"\\ud800"``), which cannot be encoded.

    Examples:
        >>> parse_json('{"text": "one"}')
        {'text': 'one'}
        >>> parse_json("[1, 2")
        Traceback (most recent call last):
        user_input.parse_json.JsonError: Expecting ',' delimiter at column 6
    """
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_LENGTH:
        raise JsonError(f"longer than the {MAX_LENGTH:,} characters that are read")
    if _depth(text) > MAX_DEPTH:
        raise JsonError(f"more than {MAX_DEPTH} nested brackets")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if is_file or "\n" in text else ""
        raise JsonError(f"{error.msg.removesuffix(' at')} at {line}column {error.colno}") from error
    except ValueError as error:
        raise JsonError(reason(error).partition(";")[0]) from error
    except RecursionError as error:  # possible with fewer brackets when little of the stack is left
        raise JsonError("too many nested brackets") from error
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise JsonError("an unpaired surrogate, which is half of a character") from error
    return value


def _depth(text: str) -> int:
    """Return the largest number of brackets that are open at once, without those in strings."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    steps = (1 if mark in "[{" else -1 for mark in _BRACKET.findall(_STRING.sub("", text)))
    return max(accumulate(steps), default=0)
