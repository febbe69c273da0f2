from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm, t

from crosstime.errors import CrosstimeError
from crosstime.evolution.claims import (
    COLUMNS,
    class_counts,
    decoder_claims,
    dip_claims,
    effect_claims,
)
from crosstime.evolution.false_discoveries import false_discoveries
from crosstime.evolution.null_names import NULLS, is_false_under
from crosstime.evolution.rate_intervals import rate_intervals


def claims(*rows: tuple[str, str, int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_expected_numbers_are_the_rate_of_the_null_times_the_features_of_the_run():
    run = claims(("IE: a", "emerging", 18, 27), ("IE: a", "always", 5, 27), ("dips", "explained", 1, 1))
    null = claims(("IE: a", "emerging", 1, 20), ("IE: a", "transient", 2, 20), ("dips", "explained", 0, 1))
    table = false_discoveries(run, [null], "same-checkpoint").set_index(["source", "claim"])

    emerging, bounds = table.loc[("IE: a", "emerging")], rate_intervals(np.array([[1.0]]), np.array([20.0]))[0, 1:]
    assert emerging.expected == pytest.approx(27 / 20)
    assert emerging.fdr == pytest.approx(27 / 20 / 18)
    assert (emerging.low, emerging.high) == pytest.approx(tuple(27 * bounds))
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


def test_the_claims_of_a_source_have_one_dispersion_and_a_claim_that_no_seed_makes_has_it_too():
    """Two seeds of 50 features: 10 and 30 emerge, the others are always there; nobody makes the third claim but the
    run."""
    run = claims(("IE: a", "transient", 2, 50), ("IE: a", "emerging", 9, 50), ("dips", "explained", 1, 1))
    nulls = [claims(("IE: a", "emerging", k, 50), ("IE: a", "always", 50 - k, 50)) for k in (10, 30)]
    table = false_discoveries(run, nulls, "same-checkpoint")
    assert table.claim.tolist() == ["transient", "emerging", "always"]
    assert set(table.seeds) == {2}

    # By hand: (10 - 20)^2 twice, and the same of those always there, over 2 claims and 2 seeds
    dispersion = 200 / 20 + 200 / 30
    share = (norm.ppf(0.975) / t.ppf(0.975, 1)) ** 2 / dispersion
    transient = table.iloc[0]
    assert (transient.rate, transient.rate_low) == (0, 0)
    assert transient.rate_high == pytest.approx(1 - 0.025 ** (1 / (100 * share)), rel=1e-9)


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
    """Under one checkpoint nothing comes or goes; between permuted tokens nothing is of several checkpoints."""
    came_or_went = ("step0 only", "a+b only", "emerging", "discontinued", "transient", "specific", "explained")
    for claim in came_or_went:
        assert [is_false_under(null, claim) for null in NULLS] == [True, True, False, False, False, False]
    for claim in ("step0+main", "maintained", "intermittent", "partly shared"):
        assert [is_false_under(null, claim) for null in NULLS] == [True, True, True, False, False, False]
    for claim in ("shared", "always"):
        assert [is_false_under(null, claim) for null in NULLS] == [False, False, True, False, False, False]
    assert not any(is_false_under(null, "never") for null in NULLS)
