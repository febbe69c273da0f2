"""Placing labels: against brute force and by the property that matters, that none lies on another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstime.report.charts.labels import LETTER, place_beside, spread, stagger

positions = st.lists(st.floats(-3, 3, allow_nan=False), min_size=1, max_size=12)


@given(positions)
@settings(deadline=None)
def test_spread_labels_are_a_gap_apart_inside_the_bounds_and_in_order(wanted: list[float]) -> None:
    placed = spread(wanted, gap=0.3, low=-3.0, high=3.0)
    assert min(placed) >= -3.0 - 1e-9
    assert max(placed) <= 3.0 + 1e-9
    assert np.diff(sorted(placed)).min(initial=1.0) >= 0.3 - 1e-9
    for (a, x), (b, y) in itertools.combinations(zip(wanted, placed, strict=True), 2):
        assert a == b or (a < b) == (x < y)


@pytest.mark.parametrize("seed", range(5))
def test_spread_moves_labels_as_little_as_a_search_over_a_grid_finds(seed: int) -> None:
    wanted = np.random.default_rng(seed).uniform(0, 1, size=3).round(2)
    grid = np.arange(0, 1.0001, 0.05)
    ordered = np.sort(wanted)
    best = min(
        sum((np.array(spots) - ordered) ** 2)
        for spots in itertools.combinations(grid, 3)
        if min(np.diff(spots)) >= 0.2 - 1e-9
    )
    placed = np.array(spread(wanted.tolist(), gap=0.2, low=0.0, high=1.0))
    assert sum((placed - wanted) ** 2) <= best + 1e-9


def test_spread_narrows_the_gap_when_there_is_no_room() -> None:
    assert spread([0.5] * 5, gap=1.0, low=0.0, high=1.0) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_stagger_gives_touching_labels_different_rows_and_reuses_rows() -> None:
    centres, widths = [0.0, 20.0, 30.0, 200.0], [40.0] * 4
    rows = stagger(centres, widths)
    assert rows == [0, 1, 2, 0]


@given(st.lists(st.tuples(st.floats(0, 250), st.floats(0, 250)), max_size=25))
@settings(deadline=None)
def test_labels_beside_points_touch_neither_points_nor_each_other(points: list[tuple[float, float]]) -> None:
    names = [f"f{1000 + place}" for place in range(len(points))]
    places = place_beside(points, names, (250.0, 250.0))
    wide = 5 * LETTER
    drawn = [place for place in places if place is not None]
    for x, y in drawn:
        assert wide / 2 - 0.1 <= x <= 250.1 - wide / 2
        assert all(abs(x - a) >= wide / 2 + 4.4 or abs(y - b) >= 6 + 4.4 for a, b in points)
    for (x, y), (a, b) in itertools.combinations(drawn, 2):
        assert abs(x - a) >= wide - 0.11 or abs(y - b) >= 12 - 0.11


def test_a_lone_point_gets_its_label_on_the_right_and_one_at_the_edge_on_the_left() -> None:
    assert place_beside([(50.0, 50.0)], ["f1"], (100.0, 100.0))[0] == pytest.approx((62.2, 50.0))
    (place,) = place_beside([(98.0, 50.0)], ["f1"], (100.0, 100.0))
    assert place is not None
    assert place[0] < 98
