"""Where does a task dip? Checkpoints that do worse at it than others before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from crosstime.errors import CrosstimeError


@dataclass(frozen=True)
class DipPlace:
    """A checkpoint that does worse at a task than an earlier one, and the one to compare it with.

    Attributes:
        task: name of the task.
        at: the checkpoint.
        other: the later one at which the task has recovered, or else the earlier one from which it fell.
    """

    task: str
    at: str
    other: str


def find_dips(accuracy: pd.DataFrame, compared: Sequence[str]) -> list[DipPlace]:
    """Find, for each task, the compared checkpoint at which accuracy is lower than both before and after it.

    "Lower" is said where intervals do not meet. Before: at any checkpoint of the table; after: at a compared one, the
    best of which is `other`. A task that falls and does not recover has its lowest compared checkpoint as `at`, and as
    `other` the best of the compared ones before it. At most one dip a task, the deepest.

    Args:
        accuracy: a table as `crosstime.accuracy` gives it, checkpoints in order of training.
        compared: the crosscoder's checkpoints, in order of training.

    Raises:
        CrosstimeError: a compared checkpoint is not in the table.

    Examples:
        >>> rows = [("step0", 0.5, 0.4, 0.6), ("step64", 0.1, 0.0, 0.2), ("main", 0.9, 0.8, 1.0)]
        >>> accuracy = pd.DataFrame(rows, columns=["revision", "accuracy", "low", "high"]).assign(task="mine")
        >>> find_dips(accuracy, ["step64", "main"])
        [DipPlace(task='mine', at='step64', other='main')]
        >>> find_dips(accuracy, ["step0", "step64"])
        [DipPlace(task='mine', at='step64', other='step0')]
    """
    found = []
    for task, rows in accuracy.groupby("task", sort=False):
        if missing := [revision for revision in compared if revision not in set(rows.revision)]:
            raise CrosstimeError(f"The accuracy on {task} was not measured at {missing[0]}, so dips cannot be found.")
        order = rows.revision.tolist()
        at = rows.set_index("revision")
        dips, falls = [], []
        for place, revision in enumerate(compared):
            above = {name for name in order if at.low[name] > at.high[revision]}
            after = [name for name in compared[place + 1 :] if name in above]
            before = [name for name in compared[:place] if name in above]
            if after and above & set(order[: order.index(revision)]):
                dips.append(DipPlace(str(task), revision, max(after, key=at.accuracy.get)))
            elif before and not after:
                falls.append(DipPlace(str(task), revision, max(before, key=at.accuracy.get)))
        if listed := dips or falls:
            found.append(min(listed, key=lambda dip: at.accuracy[dip.at]))
    return found
