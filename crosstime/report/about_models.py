"""The words of a report about models side by side, which are no checkpoints of one training."""

from __future__ import annotations

import re
from typing import Any

_WORDS = {"checkpoint": "model", "checkpoints": "models", "life cycle": "pattern", "life cycles": "patterns"}
_PATTERN = re.compile(rf"\b({'|'.join(sorted(_WORDS, key=len, reverse=True))})\b", re.IGNORECASE)
_TITLES = frozenset({"title", "text", "subtitle", "description"})
"""Keys of a Vega-Lite specification under which words of ours stand, rather than data."""


def about_models(text: str) -> str:
    """A sentence of ours with "model" where it says "checkpoint", and "pattern" where it says "life cycle".

    Examples:
        >>> about_models("Checkpoints in order, and the life cycle of each")
        'Models in order, and the pattern of each'
    """

    def word(match: re.Match[str]) -> str:
        replacement = _WORDS[match[0].lower()]
        return replacement.capitalize() if match[0][0].isupper() else replacement

    return _PATTERN.sub(word, text)


def chart_about_models(specification: Any) -> Any:
    """A Vega-Lite specification whose titles speak of models; names and data stay as they are."""
    if isinstance(specification, list):
        return [chart_about_models(part) for part in specification]
    if not isinstance(specification, dict):
        return specification
    return {
        key: part
        if key == "datasets"
        else about_models(part)
        if key in _TITLES and isinstance(part, str)
        else chart_about_models(part)
        for key, part in specification.items()
    }
