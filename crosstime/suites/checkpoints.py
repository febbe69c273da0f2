"""Checkpoints, and where they are found: the folders of a suite, or the branches of a Hub repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosstime.errors import SuiteError
from crosstime.machine.storage import is_plain_name, read_json
from crosstime.suites.hub import branches
from crosstime.suites.revisions import Progress, in_training_order, progress
from user_input.nearest import nearest

INDEX = "suite.json"
"""Of a folder: which sub-folders are checkpoints, with their steps and tokens."""


@dataclass(frozen=True)
class Checkpoint:
    """One moment of training.

    Attributes:
        revision: the name by which it is known in the suite, results and figures.
        step: optimizer steps done, or None.
        tokens: tokens seen, or None.
        source: what `from_pretrained` takes: the checkpoint's folder, or a Hub repository id.
        hub_revision: the branch, tag or commit on the Hub; None for a folder.
    """

    revision: str
    step: int | None
    tokens: int | None
    source: str
    hub_revision: str | None

    @property
    def load_arguments(self) -> dict[str, Any]:
        """Keyword arguments for any `from_pretrained` beside `source`: revision, or local files only."""
        if self.hub_revision is None:
            return {"local_files_only": True}
        return {"revision": self.hub_revision}


def in_folder(
    folder: Path, tokens: Mapping[str, int] | None, tokens_per_step: int | None
) -> tuple[dict[str, Checkpoint], str | None]:
    """The checkpoints of a folder by revision, in order of training, and the name that its ``suite.json`` gives.

    Raises:
        SuiteError: there is none, or ``suite.json`` is damaged or names one that is not there.
    """
    index = _read_index(folder / INDEX) if (folder / INDEX).is_file() else {}
    stored = {entry["revision"]: entry for entry in index.get("revisions", ())}
    names = tuple(stored) or tuple(
        sub.name for sub in folder.iterdir() if (sub / "config.json").is_file() and not sub.name.startswith(".")
    )
    if not names:
        if (folder / "config.json").is_file():
            raise SuiteError(f"{folder} is a single checkpoint: a suite is the folder of its checkpoints' folders")
        raise SuiteError(f"no checkpoint in {folder}: none of its sub-folders has a config.json")
    found: dict[str, Progress] = {}
    for name in names:
        if not (folder / name / "config.json").is_file():
            raise SuiteError(f"{folder / INDEX} lists revision {name!r}, but {folder / name} has no config.json")
        named = progress(name, str(folder), tokens=tokens, tokens_per_step=tokens_per_step)
        entry = stored.get(name, {})
        step = entry.get("step", named.step)
        seen = named.tokens
        if name not in (tokens or {}):
            # What the caller says of the whole suite wins over the file, and the file over the name's habit.
            if tokens_per_step is not None and step is not None:
                seen = step * tokens_per_step
            elif tokens_per_step is None:
                seen = entry.get("tokens", seen)
        found[name] = Progress(step, seen)
    order = tuple(stored) or in_training_order(found)
    return {
        name: Checkpoint(name, found[name].step, found[name].tokens, str(folder / name), None) for name in order
    }, index.get("name")


def _read_index(path: Path) -> dict[str, Any]:
    index = read_json(path)
    entries = index.get("revisions") if isinstance(index, dict) else None
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("revision"), str) for entry in entries
    ):
        raise SuiteError(f'{path} must hold "revisions", a list of objects that each have a "revision"')
    if not isinstance(index.get("name"), str | None):
        raise SuiteError(f'{path}: "name" must be a text, not {index["name"]!r}')
    for entry in entries:
        revision = entry["revision"]
        if not is_plain_name(revision):
            raise SuiteError(f"{path}: revision {revision!r} does not name a folder beside the file")
        for count in ("step", "tokens"):
            value = entry.get(count)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise SuiteError(f"{path}: {count!r} of revision {revision!r} must be a whole number, not {value!r}")
    return index


def choose(known: Mapping[str, Checkpoint], revisions: Sequence[str] | None, where: object) -> tuple[Checkpoint, ...]:
    """Some of the `known` checkpoints, or all.

    Raises:
        SuiteError: a revision is unknown; the message names those nearest to it.
    """
    for revision in revisions or ():
        if revision not in known:
            raise SuiteError(unknown(revision, where, tuple(known)))
    return tuple(known[revision] for revision in revisions or known)


def unknown(revision: str, where: object, known: Sequence[str]) -> str:
    """What to say about a revision that is not there."""
    return f"no revision {revision!r} in {where}: {nearest(revision, known, most=40)}"


def may_be_repository(location: str) -> bool:
    """Whether a text can be a Hub repository id, rather than a path."""
    return not location.startswith((".", "/", "~")) and location.count("/") <= 1 and "\\" not in location


def in_repository(
    repository: str,
    revisions: Sequence[str] | None,
    tokens: Mapping[str, int] | None,
    tokens_per_step: int | None,
) -> tuple[Checkpoint, ...]:
    """The checkpoints of a Hub repository that are named, else those whose branches tell of training, in its order.

    Raises:
        SuiteError: a revision is given twice, or the list of branches cannot be had.
    """
    made: dict[str, Checkpoint] = {}
    for name in branches(repository) if revisions is None else revisions:
        elsewhere, _, revision = name.rpartition("@")
        origin = elsewhere or repository
        counts = {revision: tokens[name]} if tokens is not None and name in tokens else None
        found = progress(revision, origin, tokens=counts, tokens_per_step=tokens_per_step)
        if name in made:
            raise SuiteError(f"revision {name!r} is given twice")
        if revisions is not None or name == "main" or found != Progress(None, None):
            made[name] = Checkpoint(name, found.step, found.tokens, origin, revision)
    if revisions is not None:
        return tuple(made.values())
    order = in_training_order({name: Progress(each.step, each.tokens) for name, each in made.items()})
    return tuple(made[name] for name in order)
