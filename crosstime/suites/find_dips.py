"""Find the checkpoints at which a task dips: those with lower accuracy than checkpoints before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from crosstime.errors import CrosstimeError


@dataclass(frozen=True)
class DipCheckpoints:
    """A checkpoint with lower accuracy on a task than an earlier one, and the checkpoint to compare it with.

    Attributes:
        task: name of the task.
        at: the checkpoint with low accuracy.
        other: the later checkpoint at which accuracy has recovered, or else the earlier one from which it fell.
    """

    task: str
    at: str
    other: str


def find_dips(accuracy: pd.DataFrame, compared: Sequence[str]) -> list[DipCheckpoints]:
    """Find, for each task, the compared checkpoint at which accuracy is lower than both before and after it.

    Accuracy is lower where the intervals do not overlap. The checkpoint before may be any of the table; the one after
    must be compared, and the best of these is `other`. For a task that falls and does not recover, `at` is its lowest
    compared checkpoint, and `other` the best of the compared ones before it. A task has at most one dip, the deepest.

    Args:
        accuracy: the table of `crosstime.accuracy`, with the checkpoints in the order of training.
        compared: the checkpoints of the crosscoder, in the order of training.

    Raises:
        CrosstimeError: a compared checkpoint is not in the table.

    Examples:
        >>> rows = [("step0", 0.5, 0.4, 0.6), ("step64", 0.1, 0.0, 0.2), ("main", 0.9, 0.8, 1.0)]
        >>> accuracy = pd.DataFrame(rows, columns=["revision", "accuracy", "low", "high"]).assign(task="mine")
        >>> find_dips(accuracy, ["step64", "main"])
        [DipCheckpoints(task='mine', at='step64', other='main')]
        >>> find_dips(accuracy, ["step0", "step64"])
        [DipCheckpoints(task='mine', at='step64', other='step0')]
    """
    deepest = []
    for task, rows in accuracy.groupby("task", sort=False):
        # Read the accuracies and intervals of the task
        if missing := [revision for revision in compared if revision not in set(rows.revision)]:
            raise CrosstimeError(f"The accuracy on {task} was not measured at {missing[0]}, so dips cannot be found.")
        order = [str(revision) for revision in rows.revision]
        mean, low, high = (dict(zip(order, rows[name], strict=True)) for name in ("accuracy", "low", "high"))

        # Look for checkpoints that lie below both an earlier and a later one, or below an earlier one only
        dips, falls = [], []
        for index, revision in enumerate(compared):
            above = {name for name in order if low[name] > high[revision]}
            before = [name for name in compared[:index] if name in above]
            after = [name for name in compared[index + 1 :] if name in above]
            if after and above & set(order[: order.index(revision)]):
                dips.append(DipCheckpoints(str(task), revision, max(after, key=mean.__getitem__)))
            elif before and not after:
                falls.append(DipCheckpoints(str(task), revision, max(before, key=mean.__getitem__)))

        # Keep the deepest
        if candidates := dips or falls:
            deepest.append(min(candidates, key=lambda dip: mean[dip.at]))
    return deepest
