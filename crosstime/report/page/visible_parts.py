"""Make every character of a token visible."""

from __future__ import annotations

import unicodedata

_SIGNS = {"\n": "↵", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", "\u2028": "↵", "\u2029": "↵"}
_SPACE, _EMPTY = "␣", "∅"

_JOINERS = "\u200c\u200d"
"""Format characters that Persian, Indic scripts and compound emoji need; they stay as they are."""

_INVISIBLE = ("Cc", "Cf", "Cs", "Co")
"""Unicode categories that are replaced by their code point: control, format, surrogate and private use."""


def visible_parts(token: str) -> list[str]:
    """Split a token into text and signs in alternation, text first, so that white space and invisible characters show.

    The leading space of a word stays a space; other white space at the ends of a token becomes a sign. Control and
    format characters, among them those that reorder text, are replaced by their code point.

    Examples:
        >>> visible_parts(" is"), visible_parts("a\\n"), visible_parts(" ")
        ([' is'], ['a', '↵'], ['', '␣'])
    """
    if token == "":
        return ["", _EMPTY]

    # The leading space of a word is text
    body = token[1:] if token[0] == " " and token.strip(" ") else token
    parts = [token[: len(token) - len(body)]]
    end = len(body.rstrip(" "))

    # Text has the even indices and signs the odd ones
    for index, character in enumerate(body):
        sign = _SIGNS.get(character)
        if character == " " and (index >= end or index == 0):
            sign = _SPACE
        elif sign is None and character not in _JOINERS and unicodedata.category(character) in _INVISIBLE:
            sign = f"U+{ord(character):04X}"
        if (len(parts) % 2 == 0) != (sign is not None):
            parts.append("")
        parts[-1] += character if sign is None else sign
    return parts
