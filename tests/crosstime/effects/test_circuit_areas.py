"""CPR and CMD against sums by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from crosstime.effects.circuit_areas import areas, circuit_areas
from crosstime.errors import CrosscoderError


def test_areas_by_hand():
    # From (0, 0) through (1, .5), (4, 1.2) to (10, .8), and on to 20:
    # CPR = (.25 + 3 * .85 + 6 * 1.0 + 10 * .8) / 20, CMD = (.75 + 3 * .35 + 6 * .2 + 10 * .2) / 20
    result = areas([1, 4, 10], torch.tensor([[0.5, 1.2, 0.8]], dtype=torch.float64), largest=20)
    assert result[0].tolist() == pytest.approx([0.84, 0.25])


def test_areas_of_many_curves_are_those_of_numpy():
    sizes, largest = [2, 3, 7, 30], 40
    shares = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = areas(sizes, shares, largest)
    for row, curve in zip(result, shares.numpy(), strict=True):
        n, f = np.array([0, *sizes, largest]), np.array([0, *curve, curve[-1]])
        assert row[0].item() == pytest.approx(np.trapezoid(f, n) / largest)
        assert row[1].item() == pytest.approx(np.trapezoid(np.abs(1 - f), n) / largest)


def test_a_table_has_one_row_per_curve_whatever_the_order_of_its_rows():
    table = pd.DataFrame(
        {
            "task": ["a", "a", "a", "a"],
            "revision": ["step1", "step1", "step2", "step2"],
            "n": [4, 2, 2, 4],
            "faithfulness": [1.0, 0.5, 0.0, 0.0],
        }
    )
    result = circuit_areas(table)
    assert result.columns.tolist() == ["task", "revision", "cpr", "cmd"]
    assert result.values.tolist() == [["a", "step1", 0.5, 0.5], ["a", "step2", 0.0, 1.0]]
    assert circuit_areas(table, largest=8).cpr.tolist() == [0.75, 0.0]


def test_bad_input_is_refused():
    with pytest.raises(CrosscoderError, match="column 'faithfulness'"):
        circuit_areas(pd.DataFrame({"task": ["a"], "revision": ["b"], "n": [1]}))
    empty = pd.DataFrame({"task": [], "revision": [], "n": [], "faithfulness": []})
    with pytest.raises(CrosscoderError, match="no faithfulness curve"):
        circuit_areas(empty)
    with pytest.raises(CrosscoderError, match="from 1 to 3"):
        areas([1, 4], torch.ones(1, 2), largest=3)
    with pytest.raises(CrosscoderError, match="ascending"):
        areas([2, 1], torch.ones(1, 2), largest=3)
