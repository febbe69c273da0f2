"""Checkpoints, and where they are found: the folders of a suite, or the branches of a Hub repository."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosstime.errors import SuiteError
from crosstime.machine.storage import is_plain_name, read_json
from crosstime.suites.hub import branches
from crosstime.suites.revisions import RevisionName, TrainingProgress, in_training_order, training_progress
from user_input.first_names import first_names
from user_input.home import expanded
from user_input.nearest import nearest, similar_beside

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

INDEX = "suite.json"
"""File of a suite's folder that lists its checkpoints with their steps and tokens."""
COLUMN_DTYPES = {"step": "Int64", "tokens": "Int64"}
"""Dtypes of the columns of `Checkpoint.as_row` that may have missing values."""
_MOST_NAMES = 10
"""Number of names that a message about many branches lists."""


@dataclass(frozen=True)
class Checkpoint:
    """One point of training.

    Attributes:
        revision: the name of the checkpoint in the suite, results and figures.
        step: number of optimizer steps, or None if unknown.
        tokens: number of training tokens, or None if unknown.
        source: what `from_pretrained` takes: the folder of the checkpoint, or a Hub repository id.
        hub_revision: branch, tag or commit on the Hub; None for a folder.
        model: the model itself, if it is in memory; `source` then only describes it.
        tokenizer: the tokenizer that came with a model in memory, if one did.
    """

    revision: str
    step: int | None
    tokens: int | None
    source: str
    hub_revision: str | None
    model: PreTrainedModel | None = field(default=None, repr=False)
    tokenizer: PreTrainedTokenizerBase | None = field(default=None, repr=False)

    @property
    def load_arguments(self) -> dict[str, Any]:
        """Keyword arguments that any `from_pretrained` needs in addition to `source`."""
        if self.hub_revision is None:
            return {"local_files_only": True}
        return {"revision": self.hub_revision}

    def as_row(self) -> dict[str, str | int | None]:
        """The columns by which tables identify a checkpoint: revision, step and tokens."""
        return {"revision": self.revision, "step": self.step, "tokens": self.tokens}


def checkpoints_in_folder(
    folder: Path, tokens: Mapping[str, int] | None, tokens_per_step: int | None
) -> tuple[dict[str, Checkpoint], str | None]:
    """The checkpoints of a folder by revision, in the order of training, and the suite's name in ``suite.json``.

    Args:
        folder: the folder of a suite.
        tokens: training tokens by revision; they override every other source.
        tokens_per_step: training tokens of one optimizer step.

    Raises:
        SuiteError: the folder has no checkpoint, or ``suite.json`` is damaged or names a checkpoint that is missing.
    """
    # List the sub-folders that are checkpoints
    index = _read_index(folder / INDEX) if (folder / INDEX).is_file() else {}
    entries = {entry["revision"]: entry for entry in index.get("revisions", ())}
    names = tuple(entries) or tuple(
        path.name for path in folder.iterdir() if (path / "config.json").is_file() and not path.name.startswith(".")
    )
    if not names:
        if (folder / "config.json").is_file():
            raise SuiteError(f"{folder} is a single checkpoint: a suite is the folder of its checkpoints' folders")
        raise SuiteError(f"no checkpoint in {folder}: none of its sub-folders has a config.json")

    # Find out how long each was trained
    progress: dict[str, TrainingProgress] = {}
    for name in names:
        if not (folder / name / "config.json").is_file():
            raise SuiteError(f"{folder / INDEX} lists revision {name!r}, but {folder / name} has no config.json")
        by_name = training_progress(name, str(folder), tokens=tokens, tokens_per_step=tokens_per_step)
        entry = entries.get(name, {})
        step = entry.get("step", by_name.step)
        training_tokens = by_name.tokens
        if name not in (tokens or {}):
            # The caller's numbers override those of the file, which override what the name says.
            if tokens_per_step is not None and step is not None:
                training_tokens = step * tokens_per_step
            elif tokens_per_step is None:
                training_tokens = entry.get("tokens", training_tokens)
        progress[name] = TrainingProgress(step, training_tokens)

    # Put them in order
    order = tuple(entries) or in_training_order(progress)
    checkpoints = {
        name: Checkpoint(name, progress[name].step, progress[name].tokens, str(folder / name), None) for name in order
    }
    return checkpoints, index.get("name")


def checkpoints_in_repository(
    repository: str,
    revisions: Sequence[str] | None,
    tokens: Mapping[str, int] | None,
    tokens_per_step: int | None,
) -> tuple[Checkpoint, ...]:
    """The given checkpoints of a Hub repository, or all whose branch says how long they were trained, in that order.

    A warning counts and names the branches that are left out, as they do not say it.

    Args:
        repository: id of the repository.
        revisions: branches, tags or commits, or ``ORG/NAME@REVISION`` for another repository; None lists the branches.
        tokens: training tokens by revision.
        tokens_per_step: training tokens of one optimizer step.

    Raises:
        SuiteError: a revision is given twice, the branches cannot be listed, or none of several says how long it was
            trained.
    """
    # Find out how long each was trained
    checkpoints: dict[str, Checkpoint] = {}
    left_out: list[str] = []
    # Pull requests, which the cache lists with the branches, are no checkpoints.
    listed = [] if revisions is not None else [name for name in branches(repository) if not name.startswith("refs/")]
    for name in listed if revisions is None else revisions:
        other_repository, _, revision = name.rpartition("@")
        source = other_repository or repository
        counts = {revision: tokens[name]} if tokens is not None and name in tokens else None
        progress = training_progress(revision, source, tokens=counts, tokens_per_step=tokens_per_step)
        if name in checkpoints:
            raise SuiteError(f"revision {name!r} is given twice")
        if revisions is not None or name == "main" or progress != TrainingProgress(None, None):
            checkpoints[name] = Checkpoint(name, progress.step, progress.tokens, source, revision)
        else:
            left_out.append(name)
    if revisions is not None:
        return tuple(checkpoints.values())

    # Say which branches are no checkpoints of the suite
    if left_out and not checkpoints.keys() - {"main"}:
        raise SuiteError(
            f"none of the {len(left_out):,} branches of {repository!r} besides main says in its name at which step it "
            f"was saved: {first_names(left_out, _MOST_NAMES)}; name the revisions of the suite yourself, in order"
        )
    if left_out:
        warnings.warn(
            f"{len(left_out):,} of {len(listed):,} branches of {repository!r} are left out, because their names do not "
            f"say at which step they were saved: {first_names(left_out, _MOST_NAMES)}; name the revisions yourself to "
            "use others",
            RuntimeWarning,
            stacklevel=3,
        )

    # Put them in order
    order = in_training_order(
        {name: TrainingProgress(checkpoint.step, checkpoint.tokens) for name, checkpoint in checkpoints.items()}
    )
    return tuple(checkpoints[name] for name in order)


def select_checkpoints(
    known: Mapping[str, Checkpoint], revisions: Sequence[str] | None, where: object
) -> tuple[Checkpoint, ...]:
    """The checkpoints of the given revisions, or all.

    Args:
        known: all checkpoints, by revision.
        revisions: the revisions, in order; None selects all.
        where: the place that holds them, for the message.

    Raises:
        SuiteError: a revision is unknown; the message names those nearest to it.
    """
    for revision in revisions or ():
        if revision not in known:
            raise SuiteError(unknown_revision(revision, where, tuple(known)))
    return tuple(known[revision] for revision in revisions or known)


def check_steps(checkpoints: Sequence[Checkpoint], tokens_per_step: int | None, where: str) -> None:
    """Refuse a number of tokens per step for checkpoints of which none has a step.

    Args:
        checkpoints: the checkpoints of a suite.
        tokens_per_step: training tokens of one step, if the caller gives them.
        where: the place that holds them, for the message.

    Raises:
        SuiteError: no checkpoint except ``main`` has a step, so that the number would be ignored.
    """
    names = [checkpoint.revision for checkpoint in checkpoints if checkpoint.revision != "main"]
    if tokens_per_step is not None and names and all(checkpoint.step is None for checkpoint in checkpoints):
        raise SuiteError(
            f"tokens_per_step has no step to count: no revision of {where} says in its name at which step it was saved "
            f"({first_names(names, _MOST_NAMES)}); give the training tokens of each revision instead"
        )


def warn_of_counts_that_start_again(checkpoints: Sequence[Checkpoint], where: str) -> None:
    """Warn where the training tokens of a later stage count from the start of that stage.

    Args:
        checkpoints: the checkpoints of a suite, in order.
        where: the place that holds them, for the message.
    """
    # Keep the checkpoints whose name has a stage
    by_stage = []
    for checkpoint in checkpoints:
        name = RevisionName.parse(checkpoint.revision)
        if name is not None and checkpoint.tokens is not None:
            by_stage.append((checkpoint, (name.stage, name.ingredient)))

    # Compare each with the one before it
    for (earlier, stage), (later, next_stage) in pairwise(by_stage):
        if stage < next_stage and (later.tokens or 0) < (earlier.tokens or 0):
            warnings.warn(
                f"the tokens of {later.revision!r} of {where} count from the start of its stage, after "
                f"{earlier.revision!r}: figures place it by them unless the tokens of later stages are given",
                RuntimeWarning,
                stacklevel=3,
            )
            return


def unknown_revision(revision: str, where: object, known: Sequence[str]) -> str:
    """The message about a revision that does not exist, with those nearest to it."""
    return f"no revision {revision!r} in {where}: {nearest(revision, known, most=40)}"


def refuse_missing_suite(source: str | os.PathLike[str]) -> None:
    """Refuse a source that is neither a folder on this machine nor in the form of a Hub repository id.

    Raises:
        SuiteError: the sentence names it.
    """
    location = os.fspath(source)
    path = expanded(location)
    if path.is_file():
        raise SuiteError(f"{location} is a file: a suite is a folder with one folder for each checkpoint")
    if not path.is_dir() and (isinstance(source, Path) or not is_repository_id(location)):
        raise SuiteError(
            f"there is no folder {location}, and it is not a Hub repository id (ORG/NAME): {similar_beside(path)}"
        )


def is_repository_id(location: str) -> bool:
    """Whether a text can be a Hub repository id, rather than a path."""
    return not location.startswith((".", "/", "~")) and location.count("/") <= 1 and "\\" not in location


def _read_index(path: Path) -> dict[str, Any]:
    """The content of a ``suite.json``, checked.

    Raises:
        SuiteError: it is damaged.
    """
    # Check the structure
    index = read_json(path)
    entries = index.get("revisions") if isinstance(index, dict) else None
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("revision"), str) for entry in entries
    ):
        raise SuiteError(f'{path} must hold "revisions", a list of objects that each have a "revision"')
    if not isinstance(index.get("name"), str | None):
        raise SuiteError(f'{path}: "name" must be a text, not {index["name"]!r}')

    # Check every revision
    for entry in entries:
        revision = entry["revision"]
        if not is_plain_name(revision):
            raise SuiteError(f"{path}: revision {revision!r} does not name a folder next to the file")
        for count in ("step", "tokens"):
            value = entry.get(count)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise SuiteError(f"{path}: {count!r} of revision {revision!r} must be a whole number, not {value!r}")
    return index
