"""The benchmark of null models: coverage and true rates are those that a reader would count."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy.stats import beta

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.cases import null_rates  # noqa: E402
from crosstime.evolution.claims import COLUMNS  # noqa: E402
from crosstime.evolution.null_names import NOISE, PERMUTED  # noqa: E402
from crosstime.training.plant import plant  # noqa: E402


def table(*counts: int, n: int = 40) -> pd.DataFrame:
    """The claims of one training: classes and lives with the same counts."""
    names = (("c0 only", "c1 only", "shared"), ("emerging", "transient", "always"))
    rows = [
        (source, claim, count, n)
        for source, claims in zip(("RelDec", "decoder norm"), names, strict=True)
        for claim, count in zip(claims, counts, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_coverage_is_the_share_of_groups_whose_interval_holds_the_rate_of_the_others():
    counts = [2, 4, 3, 20, 2, 3]
    tables = [table(count, 0, 40 - count) for count in counts]
    groups = pd.concat(null_rates.coverage(NOISE, tables))
    alone = groups[(groups.seeds == 1) & (groups.claim == "emerging")]

    # By hand: Clopper-Pearson of k of 40 against the mean of the other five
    expected = []
    for i, k in enumerate(counts):
        truth = (sum(counts) - counts[i]) / 200
        expected.append(beta.ppf(0.025, k, 41 - k) <= truth <= beta.ppf(0.975, k + 1, 40 - k))
    assert alone.held.tolist() == expected
    assert 0 < sum(expected) < 6
    assert alone.false.all()
    # Two groups of three; a claim that nobody makes is shown because it is false, and "shared" because it is made
    assert (groups[(groups.seeds == 3)].groupby("claim").size() == 2).all()
    assert set(groups.claim) == {"c0 only", "c1 only", "shared", "emerging", "transient", "always"}

    rows = {(row.case, row.metric): row.ours for row in null_rates.coverage_rows(NOISE, [tables, tables])}
    assert rows["same-checkpoint-noise, 1 seed", "coverage, all claims"] == pytest.approx(
        groups[groups.seeds == 1].held.mean()
    )
    claim = "same-checkpoint-noise, 3 seeds, RelDec: c0 only, true rate 0.142"
    assert rows[claim, "coverage"] == groups[(groups.seeds == 3) & (groups.claim == "c0 only")].held.mean()


@pytest.mark.parametrize("kind", [NOISE, PERMUTED])
def test_the_stated_interval_holds_the_rate_of_other_trainings_on_a_planted_problem(kind):
    """Three trainings state intervals; at most one in ten misses the rate of three others."""
    claims = null_rates.null_claims(0, kind, 6)
    groups = pd.concat(null_rates.coverage(kind, claims))
    threes = groups[groups.seeds == 3]
    assert threes.truth.max() > 0.1
    assert threes[threes.truth > 0.03].held.mean() >= 0.9
    # The intervals say something
    assert threes.width.mean() < 0.2


def test_true_rates_are_counted_against_the_planted_features():
    stated = null_rates.stated_and_true(null_rates.CROWDED, 0, n_seeds=2)
    assert stated.true.between(0, 1).all()
    assert set(stated.source) == {"RelDec", "decoder norm", "test of presence"}
    assert not stated.duplicated(["source", "claim"]).any()
    assert stated.fdr.max() > 0

    # The ideal crosscoder of a problem has its planted features
    planted = plant(12, 3, 16, shared=0.5, seed=3)
    ideal = null_rates.Dictionary(planted.crosscoder(), torch.tensor([4, 0, 11]), 0.0, pd.DataFrame())
    nearest, near = null_rates.nearest_planted(ideal, planted)
    assert nearest.tolist() == [4, 0, 11]
    assert near.all()
    only = {0: "discontinued", 1: "transient", 2: "emerging"}
    assert null_rates.lives(ideal.norms) == ["always", "always", only[11 % 3]]
