"""The comparisons of the papers' methods: what they compute, and that the guides have their committed tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.papers.ctt_estimators import COMPARISONS, RESULT, SETTINGS, compare, table  # noqa: E402


def test_the_guide_has_the_committed_table():
    rows = json.loads(RESULT.read_text(encoding="utf-8"))
    measured = {row["suite"] for row in rows}
    assert list(dict.fromkeys(row["suite"] for row in rows)) == [s.suite for s in SETTINGS if s.suite in measured]
    assert {row["column"] for row in rows} == set(COMPARISONS)
    assert table(rows) in (ROOT / "docs" / "guides" / "ctt.md").read_text(encoding="utf-8")
    for row in rows:
        assert row["low"] <= row["high"], row


def test_two_matrices_of_effects_by_hand():
    reference = torch.zeros(2, 40)
    reference[:, 0] = torch.tensor([1.0, 3.0])
    reference[:, 1] = torch.tensor([4.0, -1.0])
    other = reference.clone()
    other[:, 1] = torch.tensor([-1.0, -1.0])
    comparison = compare(reference, other, ("early", "late"))
    assert comparison["top 10 in common"] == comparison["top 100 in common"] == 1
    assert comparison["same sign"] == pytest.approx(3 / 4)
    # RelIE of feature 1 is .8 and .2, then .5 and .5: it was specific to the early checkpoint, and is shared.
    assert comparison["mean difference of RelIE"] == pytest.approx(0.15)
    assert comparison["largest difference of RelIE"] == pytest.approx(0.3)
    assert comparison["class changes"] == pytest.approx(1 / 2)
    # Feature 0 reaches 3/7 of 3 at the late checkpoint only, feature 1 at the early one, both times.
    assert comparison["first checkpoint changes"] == 0


def test_features_that_lose_their_effect_leave_the_top():
    reference, other = torch.zeros(2, 1, 120)
    reference[0, :12] = torch.arange(12, 0, -1)
    other[0, 5:17] = torch.arange(12, 0, -1)
    comparison = compare(reference, other, ("main",))
    assert comparison["top 10 in common"] == pytest.approx(5 / 10)
    assert comparison["top 100 in common"] == pytest.approx(7 / 12)
