"""The benchmarks of features through time run at small sizes, and judge what they are there to judge."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.cases import absorption, sharing, synthetic, temporal  # noqa: E402
from crosstime.evolution.recovery import DECODER, TESTED, match_planted  # noqa: E402
from crosstime.training.kinds import KINDS  # noqa: E402
from crosstime.training.plant import plant  # noqa: E402


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


def test_thresholds_of_sharing_are_chosen_on_seeds_that_are_not_reported():
    assert not set(sharing.CHOOSING) & set(sharing.REPORTING)
    matched = {}
    for problem, weak in sharing.PROBLEMS.items():
        for seed in (10, 0):
            planted = plant(40, 3, 128, weak=weak, density=3.0, noise=0.01, seed=seed)
            crosscoder = planted.crosscoder()
            # Decoders of the seed for reporting are misleading: weak features have the strength of the others
            if seed == 0:
                with torch.no_grad():
                    crosscoder.W_dec[:20] = (
                        planted.directions[:20].norm(dim=-1).clamp(min=1e-9).reciprocal().unsqueeze(-1)
                        * planted.directions[:20]
                    )
            matched[problem, seed] = match_planted(planted, crosscoder, n_tokens=1_024)
    chosen = {key: value for key, value in matched.items() if key[1] == 10}
    # A fifth of the strength is kept by fractions of at most .2; rounding decides at .2 itself
    assert sharing.choose(chosen, DECODER).fraction in (0.2, 0.15)
    reported = {key: value for key, value in matched.items() if key[1] == 0}
    assert sharing.choose(reported, DECODER).fraction == 3 / 7

    rows = sharing.measure(sharing.settings("batchtopk", 50, 10), matched, [10], [0])
    # For three ways and two problems four scores; the test has four more that are judged, and undecided features
    assert len(rows) == 3 * 2 * 4 + 2 * 5
    judged = [row for row in rows if row.met is not None]
    assert [row.other for row in judged] == [0.95] * 4 + [0.9] * 4
    assert all(TESTED in row.case for row in judged)
    by_norm = [row for row in rows if f"by {DECODER} (" in row.case and "weak, shared" in row.case]
    assert [row.ours for row in by_norm] == [1.0, 1.0]


def test_the_flag_of_absorption_is_scored_by_planted_parents():
    # Two learned features of parent 7, one of parent 8, one that is no parent; 9 is a parent that was not learned
    table = pd.DataFrame(
        {
            "overlap": [0.9, 0.8, 0.6, 0.9],
            "fires": [0.0, 0.0, 0.9, 0.9],
            "cosine": [0.7, 0.7, 0.7, 0.5],
            "partner": [7, 7, 8, 3],
            "is_parent": [True, True, True, False],
        }
    )
    table.attrs["parents"] = 3
    assert absorption.score(table, 0.7, 0.4) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert absorption.score(table, 0.5, 0.6) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert absorption.score(table, 0.5, 0.6, column="fires") == (1.0, pytest.approx(1 / 3))
    assert absorption.choose([table]) == (0.5, 0.6)
