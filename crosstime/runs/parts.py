"""The finished parts of an unfinished stage, so that a run which was killed goes on from there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from crosstime.machine.storage import atomic_path, read_table, write_table

TEXT_COLUMNS = dict.fromkeys(
    ("task", "features", "kind", "revision", "class_ie", "class_dec", "text", "dip", "at", "other", "group"), "str"
)
"""Columns of a run's tables that are text even where every entry looks like a number."""


class Pieces:
    """A folder in which a stage keeps what it has finished, each file with a checksum beside it.

    Args:
        folder: of the pieces; made when the first is written.

    Examples:
        >>> import tempfile
        >>> pieces = Pieces(Path(tempfile.mkdtemp()))
        >>> pieces.has("a.txt")
        False
        >>> path = pieces.keep("a.txt", lambda path: path.parent.mkdir(exist_ok=True) or path.write_text("whole"))
        >>> pieces.has("a.txt")
        True
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where a piece is, or will be."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether a piece is there and whole."""
        path, seal = self.path(name), self._seal(name)
        try:
            return seal.is_file() and path.is_file() and seal.read_text(encoding="utf-8") == checksum(path)
        except (OSError, UnicodeDecodeError):
            return False

    def keep(self, name: str, write: Callable[[Path], object]) -> Path:
        """Where a piece lies, written by `write` unless it is there and whole."""
        path = self.path(name)
        if not self.has(name):
            self._seal(name).unlink(missing_ok=True)
            write(path)
            with atomic_path(self._seal(name)) as temporary:
                temporary.write_text(checksum(path), encoding="utf-8")
        return path

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table, made unless it is there and whole."""
        return read_table(self.keep(name, lambda path: write_table(path, make())), dtypes=TEXT_COLUMNS)

    def _seal(self, name: str) -> Path:
        return self.folder / f"{name}.sha256"


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
