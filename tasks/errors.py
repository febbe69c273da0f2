"""What can be wrong with a task: one class hierarchy, one clear sentence each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TaskError(ValueError):
    """Base of every error that `tasks` raises on purpose."""


class UnknownTaskError(TaskError):
    """A task, paradigm, language or phenomenon that does not exist."""


class DataError(TaskError):
    """A data file that is missing or has a line that cannot be read."""


class EmptyTaskError(TaskError):
    """Nothing is left of a task after its pairs were filtered."""


class NoSharedPromptError(TaskError):
    """A task whose sentences differ before the answer was asked for prompts."""


class TokenizerError(TaskError):
    """A tokenizer that cannot say which characters a token stands for."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, to be a part of a sentence; its class where it says nothing.

    Examples:
        >>> first_line(OSError("no route to host.\\nMore of it."))
        'no route to host'
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


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
