"""The choice of checkpoints against trying every choice."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest

from crosstime.errors import SuiteError
from crosstime.suites.select import longest_path, select


@pytest.mark.parametrize("k", [2, 3, 4, 6])
@pytest.mark.parametrize("keep", [(), (3,), (1, 4)])
@pytest.mark.parametrize("seed", range(4))
def test_the_path_is_the_first_of_the_best_among_all(k: int, keep: tuple[int, ...], seed: int):
    # Small whole numbers, so that ties are frequent.
    change = np.random.default_rng(seed).integers(0, 3, (6, 6)).astype(float)
    allowed = [path for path in combinations(range(6), k) if set(keep) <= set(path)]
    best = max(allowed, key=lambda path: sum(change[step] for step in pairwise(path)))
    assert tuple(longest_path(change, k, keep)) == best


def test_a_turn_in_accuracy_is_chosen_and_can_be_overruled():
    rows = [("a", 0.5), ("b", 0.2), ("c", 0.3), ("d", 0.9)]
    table = pd.DataFrame([{"revision": name, "task": "t", "accuracy": value} for name, value in rows])
    assert select(3, table).revisions == ("a", "b", "d")
    assert "c" in select(3, table, keep=["c"]).revisions
    assert select(2, table, keep=["c", "d"]).revisions == ("c", "d")
    with pytest.raises(SuiteError, match="no checkpoint 'x' to keep"):
        select(2, table, keep=["x"])
    with pytest.raises(SuiteError, match="k must be from 2 to the 4"):
        select(5, table)
    with pytest.raises(SuiteError, match="give a table"):
        select(2)
