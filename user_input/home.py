"""Paths as people write them, with ``~`` for a home folder."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder in place of ``~``; ``~NAME`` of a user who does not exist is left as it is.

    Examples:
        >>> expanded("~/corpus.txt") == Path.home() / "corpus.txt"
        True
        >>> expanded("data/~old.txt").as_posix()
        'data/~old.txt'
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for an unknown user
