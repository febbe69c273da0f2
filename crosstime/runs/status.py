"""Where a run stands, read from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crosstime.runs.ledger import PARTIAL, damaged, read_manifest
from crosstime.runs.lock import holder
from crosstime.runs.recipe.recipe import TINY


@dataclass(frozen=True)
class StageStatus:
    """One stage of a run.

    Attributes:
        name: of the stage.
        state: done, damaged, partial or waiting.
        note: seconds, damaged files, or how many pieces there are.
    """

    name: str
    state: str
    note: str


@dataclass(frozen=True)
class RunStatus:
    """A run: its stages, and who is at work in it.

    Attributes:
        folder: of the run.
        holder: the process that runs in it, in words; None where none does.
        stages: in order.
    """

    folder: Path
    holder: str | None
    stages: tuple[StageStatus, ...]

    @property
    def finished(self) -> bool:
        """Whether every stage is done and whole."""
        return all(stage.state == "done" for stage in self.stages)


def status(folder: Path) -> RunStatus:
    """Where a run stands; its files are compared with their checksums.

    Raises:
        RunError: the folder holds no run, or its manifest is damaged.

    Examples:
        >>> status(Path("runs/demo")).finished  # doctest: +SKIP
        True
    """
    from crosstime.runs.stages.registry import STAGES

    manifest = read_manifest(folder)
    recipe = manifest.get("recipe")
    suite = recipe.get("suite") if isinstance(recipe, dict) else None
    trained_here = isinstance(suite, dict) and suite.get("source") == TINY
    names = [stage.name for stage in STAGES if trained_here or stage.name != "suite"]
    stages = tuple(_stage(folder, name, manifest["stages"].get(name)) for name in names)
    return RunStatus(folder, holder(folder), stages)


def _stage(folder: Path, name: str, entry: object) -> StageStatus:
    spoiled = damaged(folder, entry) if entry is not None else []
    if isinstance(entry, dict) and not spoiled:
        return StageStatus(name, "done", f"{entry.get('seconds')} s")
    # The pieces of a stage go when it is done, so those that are there belong to one that was stopped.
    pieces = [path for path in (folder / PARTIAL).glob(f"{name}-*/*") if path.suffix != ".sha256"]
    if pieces:
        return StageStatus(name, "partial", f"{len(pieces)} pieces")
    if spoiled:
        return StageStatus(name, "damaged", f"{', '.join(spoiled)}: not what was written")
    return StageStatus(name, "waiting", "")
