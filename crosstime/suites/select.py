"""Select the checkpoints between which accuracy and representation change most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
from jaxtyping import Float

from crosstime.display import Display
from crosstime.errors import SuiteError
from user_input.nearest import nearest

WEIGHT = 0.5
_SMALLEST_GAIN = 1e-12
"""Sums in another order differ by rounding; a difference below this is no gain."""


@dataclass(frozen=True, repr=False)
class Choice(Display):
    """The selected checkpoints, and the changes by which they were selected.

    Attributes:
        revisions: the selected checkpoints, in the order of training.
        table: one row for each checkpoint: revision, chosen, accuracy_change, representation_change and change, which
            are measured from the previous selected checkpoint and NaN for the first and for those not selected.
        changes: one row for each pair of checkpoints, the earlier first: revision, other, change.
        total: sum of the changes between neighbouring selected checkpoints.
    """

    revisions: tuple[str, ...]
    table: pd.DataFrame
    changes: pd.DataFrame
    total: float

    def headline(self) -> str:
        """The selected checkpoints."""
        return f"{' → '.join(self.revisions)}, with a summed change of {self.total:.3f}"

    def tables(self) -> dict[str, pd.DataFrame]:
        """The changes between them."""
        return {"every checkpoint": self.table}


def select(
    k: int,
    accuracy: pd.DataFrame | None = None,
    similarity: pd.DataFrame | None = None,
    *,
    weight: float = WEIGHT,
    measure: str = "cosine",
    keep: Sequence[str] = (),
) -> Choice:
    """Propose `k` checkpoints that cover the largest jumps in accuracy and in representation.

    The change between two checkpoints is ::

        weight * A(a, b) / max A  +  (1 - weight) * R(a, b) / max R
        A = mean over tasks |accuracy_a - accuracy_b|        R = 1 - similarity(a, b)

    with maxima over all pairs; if only one table is given, only its term counts. Of all selections of k checkpoints,
    the one with the largest *sum of changes between neighbours* is taken, found by dynamic programming; of equal
    selections, the one that is earlier at the first checkpoint in which they differ. A selection that goes down and up
    again with the accuracy therefore beats one that contains only the ends, which would hide the turn.

    Args:
        k: number of checkpoints, at least 2.
        accuracy: the table of `crosstime.accuracy`; the order of its revisions is the order of training. Tasks without
            an accuracy at the answer token count by `sentence_accuracy`.
        similarity: the table of `crosstime.similarity`, of the same revisions.
        weight: weight of accuracy, from 0 to 1, if both tables are given.
        measure: the column of `similarity` that is used.
        keep: revisions that must be selected; with k of them, they are the selection.

    Returns:
        The selected revisions, and the changes by which they were selected.

    Raises:
        SuiteError: no table, a `k` that is too small or too large, an unknown revision or measure, or tables of
            different checkpoints.

    Examples:
        >>> rows = [("a", .5), ("b", .5), ("c", .9), ("d", .8)]
        >>> table = pd.DataFrame([{"revision": r, "task": "t", "accuracy": x} for r, x in rows])
        >>> select(2, table).revisions
        ('a', 'c')
    """
    # Measure the changes
    order, changes = _changes(accuracy, similarity, measure)
    _check_options(k, weight, keep, order)
    weights = {"accuracy": weight, "representation": 1 - weight} if len(changes) > 1 else dict.fromkeys(changes, 1.0)
    combined = np.zeros((len(order), len(order)))
    for name, change in changes.items():
        combined = combined + weights[name] * (change / (change.max() or 1.0))

    # Select the checkpoints
    chosen = longest_path(combined, k, [order.index(revision) for revision in keep])
    steps = list(pairwise(chosen))

    # Tabulate the changes
    table = pd.DataFrame({"revision": order, "chosen": [index in chosen for index in range(len(order))]})
    for name in ("accuracy", "representation"):
        table[f"{name}_change"] = _at_later_end(changes.get(name), steps, len(order))
    table["change"] = _at_later_end(combined, steps, len(order))
    pairs = pd.DataFrame(
        {"revision": order[first], "other": order[second], "change": combined[first, second]}
        for first, second in combinations(range(len(order)), 2)
    )
    total = float(sum(combined[step] for step in steps))
    return Choice(tuple(order[index] for index in chosen), table, pairs, total)


def longest_path(change: Float[np.ndarray, "C C"], k: int, keep: Sequence[int] = ()) -> list[int]:
    """Find the k ascending indices with the largest sum of changes between neighbours; of equal ones, the earlier.

    ``best[j, a]`` is the largest sum over j indices of which a is the first, and ``after[j, a]`` the second of them. An
    index in `keep` is never passed over.

    Examples:
        >>> longest_path(np.array([[0, 1, 3], [1, 0, 1], [3, 1, 0.0]]), 2)
        [0, 2]
    """
    count = len(change)

    def passes_over(first: int, second: int) -> bool:
        return any(first < index < second for index in keep)

    # Extend the best paths by one index at the front
    best = np.full((k + 1, count), -np.inf)
    after = np.zeros((k + 1, count), dtype=int)
    for index in range(count):
        best[1, index] = -np.inf if passes_over(index, count) else 0.0
    for length in range(2, k + 1):
        for first in range(count):
            for second in range(first + 1, count):
                total = change[first, second] + best[length - 1, second]
                if not passes_over(first, second) and total > best[length, first] + _SMALLEST_GAIN:
                    best[length, first], after[length, first] = total, second

    # Follow the best path from its first index
    starts = [index for index in range(count) if not passes_over(-1, index)]
    largest = max(best[k, index] for index in starts)
    path = [next(index for index in starts if best[k, index] >= largest - _SMALLEST_GAIN)]
    for length in range(k, 1, -1):
        path.append(int(after[length, path[-1]]))
    return path


def _check_options(k: int, weight: float, keep: Sequence[str], order: Sequence[str]) -> None:
    if not 0 <= weight <= 1:
        raise SuiteError(f"the weight of accuracy must lie between 0 and 1, not {weight}")
    for revision in keep:
        if revision not in order:
            raise SuiteError(f"there is no checkpoint {revision!r} to keep: {nearest(revision, order, most=40)}")
    if not 2 <= k <= len(order):
        raise SuiteError(f"k must be from 2 to the {len(order)} checkpoints that were measured, not {k}")
    if len(set(keep)) > k:
        raise SuiteError(f"{len(set(keep))} checkpoints are to be kept, but only {k} chosen: raise k")


def _at_later_end(change: Float[np.ndarray, "C C"] | None, steps: Sequence[tuple[int, int]], count: int) -> list[float]:
    """A column with the change of each step in the row of its second checkpoint, and NaN elsewhere."""
    column = [float("nan")] * count
    if change is not None:
        for first, second in steps:
            column[second] = change[first, second]
    return column


def _changes(
    accuracy: pd.DataFrame | None, similarity: pd.DataFrame | None, measure: str
) -> tuple[list[str], dict[str, Float[np.ndarray, "C C"]]]:
    """The checkpoints in order, and for each table the change between any two of them."""
    changes: dict[str, np.ndarray] = {}
    order: list[str] = []
    if accuracy is not None:
        order = list(dict.fromkeys(accuracy["revision"].astype(str)))
        changes["accuracy"] = _accuracy_changes(accuracy, order)
    if similarity is not None:
        compared = list(dict.fromkeys(similarity["revision"].astype(str)))
        if order and set(order) != set(compared):
            raise SuiteError(
                f"accuracy was measured at {', '.join(order)}, but similarity at {', '.join(compared)}: measure both "
                "at the same checkpoints"
            )
        order = order or compared
        changes["representation"] = _representation_changes(similarity, order, measure)
    if not changes:
        raise SuiteError("to choose checkpoints their accuracy or their similarity is needed: give a table")
    return order, changes


def _accuracy_changes(accuracy: pd.DataFrame, order: list[str]) -> Float[np.ndarray, "C C"]:
    """Mean over tasks of the absolute difference in accuracy."""
    values = accuracy["accuracy"]
    if "sentence_accuracy" in accuracy:
        values = values.fillna(accuracy["sentence_accuracy"])
    table = accuracy.assign(value=values, revision=accuracy["revision"].astype(str))
    by_task = table.pivot(index="revision", columns="task", values="value").loc[order].to_numpy(float)
    if np.isnan(by_task).any():
        raise SuiteError("the accuracy table lacks the accuracy of a checkpoint on a task")
    return np.abs(by_task[:, None] - by_task[None]).mean(-1)


def _representation_changes(similarity: pd.DataFrame, order: list[str], measure: str) -> Float[np.ndarray, "C C"]:
    """One minus the similarity."""
    measures = [str(name) for name in similarity if name not in ("revision", "other")]
    if measure not in measures:
        raise SuiteError(f"the similarity table has no measure {measure!r}: {nearest(measure, measures)}")
    table = similarity.assign(revision=similarity["revision"].astype(str), other=similarity["other"].astype(str))
    between = table.pivot(index="revision", columns="other", values=measure).loc[order, order].to_numpy(float)
    if np.isnan(between).any():
        raise SuiteError(f"the similarity table lacks the {measure} of two checkpoints")
    return 1 - between
