"""Names of revisions that Crosscoding Through Time joins into one string, taken apart again.

CTT joins them with ``-``, and with ``_`` for OLMo. Names contain both (``global_step1000``, ``step1000-tokens4B``), so
that the string is cut only where all parts are names that the families of models use, or where the number of separators
leaves no choice.
"""

from __future__ import annotations

from collections.abc import Callable

from crosstime.errors import CrosscoderError
from crosstime.suites.revisions import RevisionName

SEPARATORS = "-_"
_MOST_CHARACTERS = 10_000
_MOST_PIECES = 8
"""Pieces between separators of the longest known name, ``stage-2-ingredient-1-step-1000-tokens-3B``."""


def split_revisions(joined: str, count: int, location: str, model_type: str = "", model: str = "") -> tuple[str, ...]:
    """The revisions that a joined string consists of.

    Args:
        joined: the names, joined with one of `SEPARATORS`.
        count: the number of names.
        location: the file, for the message.
        model_type: CTT's second list, each name with its model before it: ``MODEL/step512-MODEL/main``.
        model: MODEL in this list.

    Raises:
        CrosscoderError: the string can be cut in no way or in several ways.

    Examples:
        >>> split_revisions("global_step10000-global_step100000-main", 3, "0_cfg.json")
        ('global_step10000', 'global_step100000', 'main')
        >>> split_revisions("step1000-tokens4B_step2000-tokens8B", 2, "0_cfg.json")
        ('step1000-tokens4B', 'step2000-tokens8B')
    """
    # The second list says where each name begins
    if model and model_type.startswith(f"{model}/"):
        names = tuple(model_type.removeprefix(f"{model}/").split(f"-{model}/"))
        if len(names) == count and joined in (separator.join(names) for separator in SEPARATORS):
            return names

    # Otherwise known names do, or else the number of separators
    if len(joined) > _MOST_CHARACTERS:
        raise CrosscoderError(f"{location}: revision_list has more than {_MOST_CHARACTERS:,} characters")
    splits = {split for separator in SEPARATORS for split in _splits(joined, count, separator, _is_known)}
    if not splits:
        plain = (tuple(joined.split(separator)) for separator in SEPARATORS)
        splits = {split for split in plain if len(split) == count and all(split)}
    if len(splits) == 1:
        return splits.pop()
    problem = "in several ways" if splits else "in no certain way"
    raise CrosscoderError(
        f"{location}: revision_list {joined[:200]!r} splits into {count} names {problem}: give revisions=[...]"
    )


def _is_known(name: str) -> bool:
    return name == "main" or RevisionName.parse(name) is not None


def _splits(joined: str, count: int, separator: str, is_name: Callable[[str], bool]) -> list[tuple[str, ...]]:
    """Up to two ways to cut a string into `count` names at some of its separators."""
    pieces = joined.split(separator)
    # The splits of the first pieces into as many names as rounds have passed, by the number of these pieces
    reached: dict[int, list[tuple[str, ...]]] = {0: [()]}
    for _ in range(count):
        further: dict[int, list[tuple[str, ...]]] = {}
        for start, splits in reached.items():
            for stop in range(start + 1, min(start + _MOST_PIECES, len(pieces)) + 1):
                if is_name(name := separator.join(pieces[start:stop])):
                    further.setdefault(stop, []).extend((*split, name) for split in splits)
        reached = {stop: splits[:2] for stop, splits in further.items()}
    return reached.get(len(pieces), [])
