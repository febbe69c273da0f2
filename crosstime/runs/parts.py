"""The finished parts of an unfinished stage, from which a stopped run resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from crosstime.machine.checksum import checksum_of
from crosstime.machine.processes import ALONE, Processes
from crosstime.machine.storage import atomic_path, read_table, write_table
from crosstime.runs.folder import TEXT_COLUMNS


class Parts:
    """A folder in which a stage keeps its finished parts: files, each with a checksum file beside it.

    Args:
        folder: folder of the parts; created with the first part.
        processes: the processes that make them together.

    Examples:
        >>> import tempfile
        >>> parts = Parts(Path(tempfile.mkdtemp()))
        >>> parts.is_finished("a.txt")
        False
        >>> path = parts.file("a.txt", lambda path: path.write_text("content"))
        >>> parts.is_finished("a.txt")
        True
    """

    def __init__(self, folder: Path, processes: Processes = ALONE) -> None:
        self.folder, self.processes = folder, processes

    def path(self, name: str) -> Path:
        """Path of a part, whether or not it exists."""
        return self.folder / name

    def is_finished(self, name: str) -> bool:
        """Whether a part exists and its checksum is right."""
        path, seal = self.path(name), self._checksum_file(name)
        try:
            return seal.is_file() and path.is_file() and seal.read_text(encoding="utf-8") == checksum_of(path)
        except (OSError, UnicodeDecodeError):
            return False

    def file(self, name: str, write: Callable[[Path], object]) -> Path:
        """Path of a part, which `write` writes unless it is finished already."""
        path = self.path(name)
        if not self.is_finished(name):
            self._checksum_file(name).unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
            with atomic_path(self._checksum_file(name)) as temporary:
                temporary.write_text(checksum_of(path), encoding="utf-8")
        return path

    def table(self, name: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A part that is a table, which is computed unless it is finished already."""
        return read_table(self.file(name, lambda path: write_table(path, compute())), dtypes=TEXT_COLUMNS)

    def _checksum_file(self, name: str) -> Path:
        return self.folder / f"{name}.sha256"
