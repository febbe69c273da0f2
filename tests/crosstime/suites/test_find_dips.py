"""Dips found in hand-written accuracies."""

from __future__ import annotations

import pandas as pd
import pytest

from crosstime.errors import CrosstimeError
from crosstime.suites.find_dips import DipCheckpoints, find_dips

STEPS = ("a", "b", "c", "d")


def accuracy(margin: float = 0.05, **tasks: list[float]) -> pd.DataFrame:
    """Accuracies at a, b, c, d, checkpoint by checkpoint, with intervals of one width."""
    rows = [
        (revision, task, values[index], values[index] - margin, values[index] + margin)
        for index, revision in enumerate(STEPS)
        for task, values in tasks.items()
    ]
    return pd.DataFrame(rows, columns=["revision", "task", "accuracy", "low", "high"])


def test_a_dip_lies_below_what_is_before_and_after_it():
    table = accuracy(up=[0.5, 0.6, 0.7, 0.9], dips=[0.5, 0.1, 0.8, 0.9], back=[0.5, 0.3, 0.1, 0.7])
    assert find_dips(table, STEPS) == [DipCheckpoints("dips", "b", "d"), DipCheckpoints("back", "c", "d")]


def test_what_lies_before_need_not_be_compared_but_what_comes_after_must():
    table = accuracy(dips=[0.5, 0.1, 0.8, 0.9])
    assert find_dips(table, ["b", "c"]) == [DipCheckpoints("dips", "b", "c")]
    assert find_dips(table, ["b"]) == []


def test_a_fall_without_recovery_is_compared_with_the_best_before_it():
    table = accuracy(falls=[0.5, 0.6, 0.3, 0.2])
    assert find_dips(table, STEPS) == [DipCheckpoints("falls", "d", "b")]
    assert find_dips(table, ["a", "c"]) == [DipCheckpoints("falls", "c", "a")]


def test_of_two_dips_the_deeper_one_is_taken_and_a_dip_goes_before_a_fall():
    assert find_dips(accuracy(x=[0.9, 0.2, 0.6, 0.05]), STEPS) == [DipCheckpoints("x", "b", "c")]
    table = accuracy(x=[0.9, 0.4, 0.1, 0.8])
    assert find_dips(table, STEPS) == [DipCheckpoints("x", "c", "d")]


def test_differences_within_the_intervals_are_no_dips():
    assert find_dips(accuracy(x=[0.5, 0.42, 0.5, 0.5]), STEPS) == []
    assert find_dips(accuracy(0.03, x=[0.5, 0.42, 0.5, 0.5]), STEPS) == [DipCheckpoints("x", "b", "c")]


def test_a_compared_checkpoint_without_accuracy_is_refused():
    with pytest.raises(CrosstimeError, match="accuracy on x was not measured at e"):
        find_dips(accuracy(x=[0.5] * 4), ["a", "e"])
