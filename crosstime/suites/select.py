"""Which checkpoints to compare: those between which accuracy and representation change most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
from jaxtyping import Float

from crosstime.errors import SuiteError
from crosstime.shown import Shown
from user_input.nearest import nearest

WEIGHT = 0.5


@dataclass(frozen=True, repr=False)
class Choice(Shown):
    """Checkpoints that were chosen, and the changes that they were chosen by.

    Attributes:
        revisions: the chosen ones, in order of training.
        table: one row a checkpoint: revision, chosen, accuracy_change, representation_change and change, from the
            chosen checkpoint before it, or for checkpoints that were not chosen and for the first, NaN.
        changes: one row for each pair of checkpoints, earlier first: revision, other, change.
        total: summed change along the chosen checkpoints.
    """

    revisions: tuple[str, ...]
    table: pd.DataFrame
    changes: pd.DataFrame
    total: float

    def headline(self) -> str:
        """The chosen checkpoints."""
        return f"{' → '.join(self.revisions)}, with a summed change of {self.total:.3f}"

    def tables(self) -> dict[str, pd.DataFrame]:
        """What changes between them."""
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
    """Propose `k` checkpoints that cover the large jumps in accuracy and in representation.

    The change between two checkpoints is ::

        weight * A(a, b) / max A  +  (1 - weight) * R(a, b) / max R
        A = mean over tasks |accuracy_a - accuracy_b|        R = 1 - similarity(a, b)

    with maxima over all pairs; where only one table is given, it alone counts. Of all ordered choices of k
    checkpoints the one with the largest *summed change between neighbours* is taken, found by dynamic programming;
    of equal ones, the earlier: at the first checkpoint in which they differ. A choice that steps up and down again
    with the accuracy therefore beats one that spans its ends, which would hide the turn.

    Args:
        k: how many, at least 2.
        accuracy: from `crosstime.accuracy`; its order of revisions is the order of training. Tasks without an
            accuracy at the answer token count by `sentence_accuracy`.
        similarity: from `crosstime.similarity`, of the same revisions.
        weight: of accuracy, 0 to 1, where both tables are given.
        measure: which column of `similarity`.
        keep: revisions that must be among the chosen; k of them overrule the rule.

    Raises:
        SuiteError: no table, k that does not fit, an unknown revision or measure, or tables of other checkpoints.

    Examples:
        >>> rows = [("a", .5), ("b", .5), ("c", .9), ("d", .8)]
        >>> table = pd.DataFrame([{"revision": r, "task": "t", "accuracy": x} for r, x in rows])
        >>> select(2, table).revisions
        ('a', 'c')
    """
    order, changes = _changes(accuracy, similarity, measure)
    if not 0 <= weight <= 1:
        raise SuiteError(f"the weight of accuracy must lie between 0 and 1, not {weight}")
    for revision in keep:
        if revision not in order:
            raise SuiteError(f"there is no checkpoint {revision!r} to keep: {nearest(revision, order, most=40)}")
    if not 2 <= k <= len(order):
        raise SuiteError(f"k must be from 2 to the {len(order)} checkpoints that were measured, not {k}")
    if len(set(keep)) > k:
        raise SuiteError(f"{len(set(keep))} checkpoints are to be kept, but only {k} chosen: raise k")
    weights = {"accuracy": weight, "representation": 1 - weight}
    if len(changes) == 1:
        weights = dict.fromkeys(changes, 1.0)
    combined = sum(weights[name] * (change / (change.max() or 1.0)) for name, change in changes.items())
    chosen = longest_path(combined, k, [order.index(revision) for revision in keep])
    table = pd.DataFrame({"revision": order, "chosen": [place in chosen for place in range(len(order))]})
    for name in ("accuracy", "representation"):
        table[f"{name}_change"] = np.nan
        if name in changes:
            table.loc[chosen[1:], f"{name}_change"] = [changes[name][step] for step in _steps(chosen)]
    table["change"] = np.nan
    table.loc[chosen[1:], "change"] = [combined[step] for step in _steps(chosen)]
    total = float(sum(combined[step] for step in _steps(chosen)))
    between = pd.DataFrame(
        {"revision": order[first], "other": order[second], "change": combined[first, second]}
        for first, second in combinations(range(len(order)), 2)
    )
    return Choice(tuple(order[place] for place in chosen), table, between, total)


def longest_path(change: Float[np.ndarray, "C C"], k: int, keep: Sequence[int] = ()) -> list[int]:
    """The k ascending places with the largest summed change between neighbours; of equal ones, the earlier.

    ``best[j][a]`` is the largest sum over j places of which a is the first; a place in `keep` is never passed over.

    Examples:
        >>> longest_path(np.array([[0, 1, 3], [1, 0, 1], [3, 1, 0.0]]), 2)
        [0, 2]
    """
    count, must = len(change), sorted(set(keep))

    def passes_over(first: int, second: int) -> bool:
        return any(first < place < second for place in must)

    best = np.full((k + 1, count), -np.inf)
    after = np.zeros((k + 1, count), dtype=int)
    for place in range(count):
        best[1, place] = -np.inf if passes_over(place, count) else 0.0
    for places in range(2, k + 1):
        for first in range(count):
            for second in range(first + 1, count):
                total = change[first, second] + best[places - 1, second]
                # Sums in another order differ by rounding: only a real gain beats an earlier place.
                if not passes_over(first, second) and total > best[places, first] + 1e-12:
                    best[places, first], after[places, first] = total, second
    starts = [place for place in range(count) if not passes_over(-1, place)]
    top = max(best[k, place] for place in starts)
    chosen = [next(place for place in starts if best[k, place] >= top - 1e-12)]
    for places in range(k, 1, -1):
        chosen.append(int(after[places, chosen[-1]]))
    return chosen


def _steps(chosen: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(chosen))


def _changes(
    accuracy: pd.DataFrame | None, similarity: pd.DataFrame | None, measure: str
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The checkpoints in order, and the change between each two of them by each table."""
    changes: dict[str, np.ndarray] = {}
    order: list[str] = []
    if accuracy is not None:
        values = accuracy["accuracy"]
        if "sentence_accuracy" in accuracy:
            values = values.fillna(accuracy["sentence_accuracy"])
        order = list(dict.fromkeys(accuracy["revision"].astype(str)))
        wide = accuracy.assign(value=values, revision=accuracy["revision"].astype(str))
        by_task = wide.pivot(index="revision", columns="task", values="value").loc[order].to_numpy(float)
        if np.isnan(by_task).any():
            raise SuiteError("the accuracy table lacks the accuracy of a checkpoint on a task")
        changes["accuracy"] = np.abs(by_task[:, None] - by_task[None]).mean(-1)
    if similarity is not None:
        columns = [name for name in similarity if name not in ("revision", "other")]
        if measure not in columns:
            raise SuiteError(f"the similarity table has no measure {measure!r}: {nearest(measure, columns)}")
        found = list(dict.fromkeys(similarity["revision"].astype(str)))
        if order and set(order) != set(found):
            raise SuiteError(
                f"accuracy was measured at {', '.join(order)}, but similarity at {', '.join(found)}: measure both at "
                "the same checkpoints"
            )
        order = order or found
        named = similarity.assign(revision=similarity["revision"].astype(str), other=similarity["other"].astype(str))
        wide = named.pivot(index="revision", columns="other", values=measure).loc[order, order].to_numpy(float)
        if np.isnan(wide).any():
            raise SuiteError(f"the similarity table lacks the {measure} of two checkpoints")
        changes["representation"] = 1 - wide
    if not changes:
        raise SuiteError("to choose checkpoints their accuracy or their similarity is needed: give a table")
    return order, changes
