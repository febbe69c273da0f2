"""The state of a run, read from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crosstime.machine.lock import lock_holder
from crosstime.runs.manifest import LOCK, PARTIAL, damaged, read_manifest, recipe_digest
from crosstime.runs.stages.names import NAMES, asks_for


@dataclass(frozen=True)
class StageStatus:
    """The state of one stage.

    Attributes:
        name: name of the stage.
        state: done, stale, damaged, partial or waiting. A stale stage was made by another recipe than the one that the
            folder records now, and has not been compared with it: that recipe's run was stopped before it came there.
        note: how many seconds it took, which files are damaged, or how many parts are finished.
    """

    name: str
    state: str
    note: str


@dataclass(frozen=True)
class RunStatus:
    """The state of a run.

    Attributes:
        folder: the run's folder.
        holder: the process that runs in it, in words; None if there is none.
        stages: the stages, in order.
    """

    folder: Path
    holder: str | None
    stages: tuple[StageStatus, ...]

    @property
    def finished(self) -> bool:
        """Whether every stage is done by the recorded recipe, and its files are intact."""
        return all(stage.state == "done" for stage in self.stages)


def status(folder: Path) -> RunStatus:
    """The state of a run; its files are compared with their checksums.

    Raises:
        RunError: the folder holds no run, or its manifest is damaged.

    Examples:
        >>> status(Path("runs/demo")).finished  # doctest: +SKIP
        True
    """
    manifest = read_manifest(folder)
    recipe = manifest.get("recipe")
    names = [name for name in NAMES if asks_for(recipe, name)]
    digest = recipe_digest(recipe)
    stages = tuple(_stage(folder, name, manifest["stages"].get(name), digest) for name in names)
    return RunStatus(folder, lock_holder(folder / LOCK), stages)


def _stage(folder: Path, name: str, entry: object, digest: str) -> StageStatus:
    """The state of a stage, by its entry in the manifest, its files, its parts, and the digest of the recipe."""
    spoiled = damaged(folder, entry) if entry is not None else []
    if isinstance(entry, dict) and not spoiled and entry.get("recipe", digest) != digest:
        return StageStatus(name, "stale", "made by another recipe")
    if isinstance(entry, dict) and not spoiled:
        return StageStatus(name, "done", f"{entry.get('seconds')} s")
    # Parts are removed when their stage is done, so those that exist belong to a stage that was stopped.
    parts = [path for path in (folder / PARTIAL).glob(f"{name}-*/*") if path.suffix not in (".sha256", ".lock")]
    if parts:
        return StageStatus(name, "partial", f"{len(parts)} parts")
    if spoiled:
        return StageStatus(name, "damaged", f"{', '.join(spoiled)}: not what was written")
    return StageStatus(name, "waiting", "")
