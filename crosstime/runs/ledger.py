"""What a run has done already: stages keyed by their inputs, files by their checksums."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crosstime.errors import RunError
from crosstime.machine.storage import read_json, write_json
from crosstime.runs.parts import Pieces, checksum

MANIFEST = "manifest.json"
PARTIAL = "partial"


class Ledger:
    """The stages of one run folder, so that a finished stage is not done again.

    A stage is done when the manifest has it with the same key, and each of its files has the checksum that
    was noted. The key is a hash of everything that the stage's result depends on, the keys of earlier stages
    among it: a changed recipe redoes what it changes, and nothing else. A stage that is stopped half-way finds
    its pieces again, in a folder that is named by its key.

    Args:
        folder: of the run; made if missing.

    Raises:
        RunError: the folder cannot be made, or its manifest is damaged.

    Examples:
        >>> import tempfile
        >>> ledger = Ledger(Path(tempfile.mkdtemp()))
        >>> ledger.stage("one", {"a": 1}, ["x.txt"], lambda pieces: (ledger.folder / "x.txt").write_text("1"))
        True
        >>> ledger.stage("one", {"a": 1}, ["x.txt"], lambda pieces: None)
        False
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the run folder {folder}: {error.strerror}") from error
        self.manifest = read_manifest(folder) if (folder / MANIFEST).exists() else {"stages": {}}

    def note(self, **facts: Any) -> None:
        """Keep facts about the run beside its stages: recipe, versions, peak memory."""
        self.manifest.update(facts)
        write_json(self.folder / MANIFEST, self.manifest)

    def key(self, name: str) -> str:
        """Key of a stage that is done.

        Raises:
            RunError: it is not.
        """
        entry = self.manifest["stages"].get(name)
        key = entry.get("key") if isinstance(entry, dict) else None
        if not isinstance(key, str):
            raise RunError(f"stage {name!r} of {self.folder} has not been done yet")
        return key

    def force(self, name: str) -> None:
        """Have a stage done again, and with it every stage that depends on it."""
        forced = self.manifest.setdefault("forced", {})
        forced[name] = forced.get(name, 0) + 1
        write_json(self.folder / MANIFEST, self.manifest)

    def is_done(self, name: str, inputs: Any, files: Sequence[str]) -> bool:
        """Whether a stage was done from these inputs, and all of its files are whole."""
        entry = self.manifest["stages"].get(name)
        if not isinstance(entry, dict) or entry.get("key") != self._key(name, inputs):
            return False
        return set(files) <= set(entry.get("files") or ()) and not damaged(self.folder, entry)

    def stage(self, name: str, inputs: Any, files: Sequence[str], work: Callable[[Pieces], object]) -> bool:
        """Do a stage unless it is done; gives whether it was.

        Args:
            name: of the stage.
            inputs: plain values that decide its result.
            files: what it writes, relative to the folder.
            work: writes them, each atomically; finished parts of it can be kept as pieces.

        Raises:
            RunError: the work did not write a file that it promised.
        """
        if self.is_done(name, inputs, files):
            return False
        key, pieces = self._key(name, inputs), self.pieces(name, inputs)
        self.manifest["stages"].pop(name, None)
        # Pieces of other inputs are of no use to anyone any more.
        for left in pieces.folder.parent.glob(f"{name}-*"):
            if left != pieces.folder:
                shutil.rmtree(left, ignore_errors=True)
        started, clock = datetime.now(UTC), time.perf_counter()
        work(pieces)
        missing = [file for file in files if not (self.folder / file).is_file()]
        if missing:
            raise RunError(f"stage {name!r} did not write {', '.join(missing)} in {self.folder}")
        self.manifest["stages"][name] = {
            "key": key,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 3),
            "files": {file: checksum(self.folder / file) for file in files},
        }
        write_json(self.folder / MANIFEST, self.manifest)
        shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)
        return True

    def pieces(self, name: str, inputs: Any) -> Pieces:
        """Where a stage that makes something of these inputs keeps what it has finished."""
        return Pieces(self.folder / PARTIAL / f"{name}-{self._key(name, inputs)}")

    def reread(self) -> None:
        """Take up what another process has written into the manifest."""
        self.manifest = read_manifest(self.folder)

    def sweep(self) -> None:
        """Remove what a killed run was about to write: temporary files, which nobody will finish."""
        # Also those of safetensors, which writes to a file of its own, .tmp and six letters, beside ours.
        for pattern in (".tmp-*", ".tmp??????", ".old-*"):
            for left in list(self.folder.rglob(pattern)):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)

    def _key(self, name: str, inputs: Any) -> str:
        again = self.manifest.get("forced", {}).get(name, 0)
        text = json.dumps([inputs, again] if again else inputs, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest.

    Raises:
        RunError: there is none, or it is damaged.
    """
    path = folder / MANIFEST
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not isinstance(manifest.setdefault("stages", {}), dict):
        raise RunError(f"{path} is not the manifest of a run; move it away to start anew")
    forced = manifest.setdefault("forced", {})
    if not isinstance(forced, dict) or not all(isinstance(times, int) for times in forced.values()):
        raise RunError(f"{path} is damaged at 'forced'; move it away to start anew")
    return manifest


def damaged(folder: Path, entry: Any) -> list[str]:
    """Files of a stage that are missing, or not what the stage wrote; its entry in the manifest says what that was.

    A name that leads out of the folder is damage as well, and is not looked at.
    """
    noted = entry.get("files") if isinstance(entry, dict) else None
    if not isinstance(noted, dict):
        return [MANIFEST]
    return [name for name, expected in noted.items() if not _is_whole(folder, name, expected)]


def _is_whole(folder: Path, name: str, expected: Any) -> bool:
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts or "\0" in name:
        return False
    path = folder / relative
    try:
        return path.is_file() and checksum(path) == expected
    except OSError:
        return False
