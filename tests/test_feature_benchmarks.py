"""The benchmarks of features through time run at small sizes, and judge what they are there to judge."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.cases import synthetic, temporal  # noqa: E402
from crosstime.training.kinds import KINDS  # noqa: E402
from crosstime.training.planted import plant  # noqa: E402


def test_the_temporal_tables_have_a_row_for_every_feature_step_and_checkpoint():
    call = temporal.prepare_tables(temporal.Dictionary(16, 3, 8))
    assert call() == 16 + 3 * 3 + 2 + 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained_on_a_planted_problem_and_only_batchtopk_is_judged(kind: str):
    planted = plant(12, 2, 16, density=2.0)
    rows = synthetic.measure("plain", planted, synthetic.settings(kind, planted, steps=6), batch_size=32)
    # Shared and specific features by three methods, precision and recall of each, and one more row
    assert len(rows) == 2 * 3 * 2 + 1
    judged = [row for row in rows if row.met is not None]
    assert len(judged) == (4 if kind == "batchtopk" else 0)
    assert all(row.other == synthetic.TARGET for row in judged)
