from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom

from crosstime.errors import CrosstimeError
from crosstime.evolution.claims import (
    COLUMNS,
    class_counts,
    decoder_claims,
    dip_claims,
    effect_claims,
)
from crosstime.evolution.false_discoveries import false_discoveries, rate_interval
from crosstime.evolution.null_names import NULLS, is_false_under


def claims(*rows: tuple[str, str, int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.mark.parametrize(("k", "m"), [(0, 40), (3, 40), (40, 40), (7, 1000)])
def test_the_interval_of_one_seed_is_that_of_clopper_and_pearson(k, m):
    rate, low, high = rate_interval([float(k)], [float(m)])
    assert rate == k / m
    # At the bounds, as many or more, and as few or fewer, have a probability of 2.5 %
    if k > 0:
        assert binom.sf(k - 1, m, low) == pytest.approx(0.025, rel=1e-6)
    if k < m:
        assert binom.cdf(k, m, high) == pytest.approx(0.025, rel=1e-6)
    assert (low == 0) == (k == 0)
    assert (high == 1) == (k == m)


def test_seeds_that_agree_narrow_the_interval_and_seeds_that_differ_widen_it():
    pooled = rate_interval([40.0], [400.0])
    alike = rate_interval([10.0, 11.0, 9.0, 10.0], [100.0] * 4)
    different = rate_interval([0.0, 30.0, 0.0, 10.0], [100.0] * 4)
    assert alike == pytest.approx(pooled)
    assert different[0] == pooled[0]
    # By hand: X = sum (k - 10)^2 / 9 / 3, which divides the number of features
    dispersion = (100 + 400 + 100 + 0) / 9 / 3
    expected = rate_interval([40 / dispersion], [400 / dispersion])
    assert different[1:] == pytest.approx(expected[1:], rel=1e-9)
    assert different[2] - different[1] > 3 * (pooled[2] - pooled[1])


def test_the_interval_covers_the_rate_of_independent_features():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        _, low, high = rate_interval(generator.binomial(120, 0.07, 1).astype(float), [120.0])
        covered += low <= 0.07 <= high
    assert covered >= 375


def test_expected_numbers_are_the_rate_of_the_null_times_the_features_of_the_run():
    run = claims(("IE: a", "emerging", 18, 27), ("IE: a", "always", 5, 27), ("dips", "explained", 1, 1))
    null = claims(("IE: a", "emerging", 1, 20), ("IE: a", "transient", 2, 20), ("dips", "explained", 0, 1))
    table = false_discoveries(run, [null], "same-checkpoint").set_index(["source", "claim"])

    emerging = table.loc[("IE: a", "emerging")]
    assert emerging.expected == pytest.approx(27 / 20)
    assert emerging.fdr == pytest.approx(27 / 20 / 18)
    assert (emerging.low, emerging.high) == pytest.approx(tuple(27 * np.array(rate_interval([1.0], [20.0])[1:])))
    assert emerging.fdr_high == pytest.approx(emerging.high / 18)
    assert bool(emerging.false)

    # A claim that only the null makes has no rate of discoveries; one that only the run makes has a null count of 0
    transient, always = table.loc[("IE: a", "transient")], table.loc[("IE: a", "always")]
    assert transient["count"] == 0
    assert math.isnan(transient.fdr)
    assert always.null_count == 0
    assert not always.false

    # One dip says little
    dip = table.loc[("dips", "explained")]
    assert (dip.fdr, dip.fdr_low, round(dip.fdr_high, 3)) == (0.0, 0.0, 0.975)


def test_a_source_that_the_null_does_not_have_has_no_row():
    run = claims(("dips", "explained", 1, 2), ("RelDec", "shared", 1, 2))
    table = false_discoveries(run, [claims(("RelDec", "shared", 2, 2))], "permuted-tokens")
    assert table.source.tolist() == ["RelDec"]
    assert table.fdr.tolist() == [1.0]


def test_no_seeds_and_other_levels_are_refused():
    with pytest.raises(CrosstimeError, match="at least one seed"):
        false_discoveries(claims(), [], "same-checkpoint")
    with pytest.raises(CrosstimeError, match="between 0 and 1, not 95"):
        false_discoveries(claims(), [claims()], "same-checkpoint", level=95.0)


def test_decoder_claims_are_counts_of_classes_and_life_cycles():
    norms = torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [0, 1, 0], [0, 0, 0]])
    table = decoder_claims(norms, ["a", "b", "c"])
    counts = {(row["source"], row["claim"]): row["count"] for row in table.to_dict("records") if row["count"]}
    assert counts == {
        ("RelDec", "a only"): 1, ("RelDec", "b+c"): 1, ("RelDec", "shared"): 1, ("RelDec", "c only"): 1,
        ("RelDec", "b only"): 1, ("decoder norm", "discontinued"): 1, ("decoder norm", "emerging"): 2,
        ("decoder norm", "always"): 1, ("decoder norm", "transient"): 1, ("decoder norm", "never"): 1,
    }  # fmt: skip
    assert set(table.n) == {6}


def test_effect_claims_count_each_feature_of_a_task_once():
    effects = pd.DataFrame(
        {"task": ["t", "t", "t", "t", "u", "u"], "feature": [1, 1, 2, 2, 1, 1], "class_ie": list("aabbcc")}
    )
    lives = pd.DataFrame(
        {
            "task": ["t", "t", "u"],
            "feature": [1, 2, 1],
            "life_cycle": ["emerging", "always", "emerging"],
            "strongest": [True, False, True],
        }
    )
    table = effect_claims(effects, lives)
    counts = {
        (row["source"], row["claim"]): (row["count"], row["n"]) for row in table.to_dict("records") if row["count"]
    }
    assert counts == {
        ("RelIE: t", "a"): (1, 2), ("RelIE: t", "b"): (1, 2), ("RelIE: u", "c"): (1, 1),
        ("IE: t", "emerging"): (1, 1), ("IE: u", "emerging"): (1, 1),
    }  # fmt: skip


def test_undefined_is_no_class():
    shares = torch.tensor([[0.9, 0.1], [float("nan")] * 2])
    assert class_counts(shares, ["a", "b"], "RelDec").values.tolist() == [["RelDec", "a only", 1, 2]]
    assert dip_claims([]).empty


def test_what_is_false_by_construction():
    came_or_went = ("step0 only", "step0+main", "emerging", "discontinued", "transient", "intermittent", "explained")
    for claim in came_or_went:
        assert [is_false_under(null, claim) for null in NULLS] == [True, True, False, False, False, False]
    for claim in ("shared", "always"):
        assert [is_false_under(null, claim) for null in NULLS] == [False, False, True, False, False, False]
    assert not any(is_false_under(null, "never") for null in NULLS)
