"""The record of a run's stages: each with a key, a hash of its inputs, and with checksums of its files."""

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
from crosstime.machine.checksum import checksum_of
from crosstime.machine.processes import ALONE, Processes
from crosstime.machine.storage import write_json
from crosstime.runs.manifest import MANIFEST, PARTIAL, damaged, read_manifest, recipe_digest
from crosstime.runs.parts import Parts


class Ledger:
    """The stages of one run folder, so that a finished stage is not repeated.

    A stage is done if the manifest has it with the same key, and each of its files has the recorded checksum. The key
    is a hash of everything that the stage's result depends on, the keys of earlier stages included: a changed recipe
    repeats the stages that it changes, and no others. A stage that was stopped finds its finished parts in a folder
    that is named by its key.

    Args:
        folder: the run's folder; created if missing.
        processes: the processes of the run.

    Raises:
        RunError: the folder cannot be made, or its manifest is damaged.

    Examples:
        >>> import tempfile
        >>> ledger = Ledger(Path(tempfile.mkdtemp()))
        >>> ledger.stage("one", {"a": 1}, ["x.txt"], lambda parts: (ledger.folder / "x.txt").write_text("1"))
        True
        >>> ledger.stage("one", {"a": 1}, ["x.txt"], lambda parts: None)
        False
    """

    def __init__(self, folder: Path, processes: Processes = ALONE) -> None:
        self.folder, self.processes = folder, processes
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the run folder {folder}: {error.strerror}") from error
        self.manifest = read_manifest(folder) if (folder / MANIFEST).exists() else {"stages": {}}

    def note(self, **facts: object) -> None:
        """Record facts about the run next to its stages: recipe, versions, peak memory."""
        self.manifest.update(facts)
        write_json(self.folder / MANIFEST, self.manifest)

    def start(self, recipe: dict[str, Any], **facts: object) -> None:
        """Record the recipe that is run now, and facts about the run.

        Every stage keeps the digest of the recipe that made it, or that found it done. Stages of an earlier recipe keep
        the digest of that one until this run comes to them, so that a stopped run does not pass for a finished one.
        """
        if "recipe" in self.manifest:
            earlier = recipe_digest(self.manifest["recipe"])
            for entry in self.manifest["stages"].values():
                if isinstance(entry, dict):
                    entry.setdefault("recipe", earlier)
        self.note(recipe=recipe, **facts)

    def key(self, name: str) -> str:
        """The key of a stage that is done.

        Raises:
            RunError: the stage is not done.
        """
        entry = self.manifest["stages"].get(name)
        key = entry.get("key") if isinstance(entry, dict) else None
        if not isinstance(key, str):
            raise RunError(f"stage {name!r} of {self.folder} has not been done yet")
        return key

    def force(self, name: str) -> None:
        """Have a stage repeated, and with it every stage that depends on it."""
        forced = self.manifest.setdefault("forced", {})
        forced[name] = forced.get(name, 0) + 1
        write_json(self.folder / MANIFEST, self.manifest)

    def is_done(self, name: str, inputs: object, files: Sequence[str]) -> bool:
        """Whether a stage was done from these inputs, and all of its files are intact."""
        entry = self.manifest["stages"].get(name)
        if not isinstance(entry, dict) or entry.get("key") != self._key(name, inputs):
            return False
        return set(files) <= set(entry.get("files") or ()) and not damaged(self.folder, entry)

    def stage(self, name: str, inputs: object, files: Sequence[str], work: Callable[[Parts], object]) -> bool:
        """Do a stage unless it is done.

        Args:
            name: name of the stage.
            inputs: plain values that decide its result.
            files: the files that it writes, relative to the folder.
            work: writes them, each atomically; it may keep finished parts of its work.

        Returns:
            Whether the stage was done now, rather than before.

        Raises:
            RunError: the work did not write one of the files.
        """
        if self.is_done(name, inputs, files):
            self.confirm(name)
            return False

        # Remove the entry, and parts that were made from other inputs
        key, parts = self._key(name, inputs), self.parts(name, inputs)
        self.manifest["stages"].pop(name, None)
        for folder in parts.folder.parent.glob(f"{name}-*"):
            if folder != parts.folder:
                shutil.rmtree(folder, ignore_errors=True)

        # Do the work
        started, clock = datetime.now(UTC), time.perf_counter()
        work(parts)
        missing = [file for file in files if not (self.folder / file).is_file()]
        if missing:
            raise RunError(f"stage {name!r} did not write {', '.join(missing)} in {self.folder}")

        # Record it
        self.manifest["stages"][name] = {
            "key": key,
            "recipe": self._recipe,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 3),
            "files": {file: checksum_of(self.folder / file) for file in files},
        }
        write_json(self.folder / MANIFEST, self.manifest)
        shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)
        return True

    def confirm(self, name: str) -> None:
        """Record that a stage is done by the present recipe too, which differs from the earlier one elsewhere."""
        entry = self.manifest["stages"][name]
        if entry.get("recipe") != self._recipe:
            entry["recipe"] = self._recipe
            write_json(self.folder / MANIFEST, self.manifest)

    @property
    def _recipe(self) -> str:
        """Digest of the recipe that is run now."""
        return recipe_digest(self.manifest.get("recipe"))

    def parts(self, name: str, inputs: object) -> Parts:
        """The finished parts of a stage with these inputs."""
        return Parts(self.folder / PARTIAL / f"{name}-{self._key(name, inputs)}", self.processes)

    def reread(self) -> None:
        """Read the manifest again, which another process may have changed."""
        self.manifest = read_manifest(self.folder)

    def sweep(self) -> None:
        """Remove the temporary files that a killed run left half-written."""
        # Also those of safetensors, which writes to a file of its own, .tmp and six letters, next to ours.
        for pattern in (".tmp-*", ".tmp??????", ".old-*"):
            for path in list(self.folder.rglob(pattern)):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def _key(self, name: str, inputs: object) -> str:
        """Hash of a stage's inputs, and of how many times it was forced."""
        forced = self.manifest.get("forced", {}).get(name, 0)
        text = json.dumps([inputs, forced] if forced else inputs, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
