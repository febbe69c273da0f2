from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from crosstime.errors import CrosstimeError
from crosstime.evolution.change_correlations import change_correlations
from interventions import Bootstrap


def tables(n: int, seed: int = 0, *, ties: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Effects and single-feature ablations of n features at two checkpoints, half related."""
    draw = np.random.default_rng(seed)
    ie = draw.normal(size=(n, 2))
    change = ie * 0.5 + 0.3 * draw.normal(size=(n, 2))
    if ties:
        change = np.round(change * 8) / 8  # equal ratios of such numbers are equal floats
    norm = draw.uniform(0.1, 1.0, size=(n, 2))
    effects, ablation = [], []
    for feature, c in itertools.product(range(n), range(2)):
        revision = ("early", "late")[c]
        effects.append(
            {
                "task": "t",
                "feature": feature,
                "revision": revision,
                "ie": ie[feature, c],
                "decoder_norm": norm[feature, c],
            }
        )
        ablation.append(
            {
                "task": "t",
                "features": str(feature),
                "revision": revision,
                "accuracy_change": change[feature, c],
                "logit_difference_change": -2 * change[feature, c],
            }
        )
    ablation.append(
        {"task": "t", "features": "top-3", "revision": "early", "accuracy_change": 9.0, "logit_difference_change": 9.0}
    )
    return pd.DataFrame(effects), pd.DataFrame(ablation)


def by_hand(effects: pd.DataFrame, ablation: pd.DataFrame, column: str, change: str) -> tuple[np.ndarray, np.ndarray]:
    """Each feature's share of the later checkpoint, and the plain ratio of its changes."""
    values = effects.pivot(index="feature", columns="revision", values=column).abs()
    single = ablation[ablation.features.str.isdigit()].assign(feature=lambda table: table.features.astype(int))
    size = single.pivot(index="feature", columns="revision", values=change).abs()
    share = values["late"] / (values["late"] + values["early"])
    ratio = size["late"] / size["early"]
    defined = ratio.notna()
    return share[defined].to_numpy(), ratio[defined].to_numpy()


@pytest.mark.parametrize("ties", [False, True])
def test_rho_is_that_of_the_ratio_of_changes_by_scipy(ties):
    effects, ablation = tables(40, ties=ties)
    correlations = change_correlations(effects, ablation, "early", "late", bootstrap=Bootstrap(50)).set_index(
        ["change", "measure"]
    )
    for (change, measure), row in correlations.iterrows():
        column = {"relie": "ie", "reldec": "decoder_norm"}[measure]
        rho = stats.spearmanr(*by_hand(effects, ablation, column, f"{change}_change")).statistic
        assert row.rho == pytest.approx(rho, abs=1e-12)
    assert correlations.rho["accuracy", "relie"] > 0.4
    assert abs(correlations.rho["accuracy", "reldec"]) < 0.4


def test_interval_is_a_bootstrap_over_features():
    effects, ablation = tables(25, seed=3)
    correlations = change_correlations(effects, ablation, "early", "late", bootstrap=Bootstrap(1500, seed=1))
    row = correlations.set_index(["change", "measure"]).loc[("accuracy", "relie")]
    draw = np.random.default_rng(9)
    share, ratio = by_hand(effects, ablation, "ie", "accuracy_change")
    resamples = draw.integers(0, 25, (1500, 25))
    samples = [stats.spearmanr(share[rows], ratio[rows]).statistic for rows in resamples]
    low, high = np.quantile(samples, [0.025, 0.975])
    assert row.low == pytest.approx(low, abs=0.04)
    assert row.high == pytest.approx(high, abs=0.04)
    assert row.low < row.rho < row.high


def test_features_without_any_change_are_left_out_and_few_give_nan():
    effects, ablation = tables(5)
    still = ablation.features.isin(["0", "1", "2"])
    ablation.loc[still, ["accuracy_change", "logit_difference_change"]] = 0.0
    correlations = change_correlations(effects, ablation, "early", "late", bootstrap=Bootstrap(20))
    assert (correlations.n == 2).all()
    assert correlations[["rho", "low", "high"]].isna().all(axis=None)


def test_a_change_at_one_checkpoint_only_has_the_highest_or_lowest_rank():
    effects, ablation = tables(12)
    only_late = (ablation.features == "4") & (ablation.revision == "early")
    ablation.loc[only_late, "accuracy_change"] = 0.0
    correlations = change_correlations(effects, ablation, "early", "late", bootstrap=Bootstrap(20))
    assert (correlations.n == 12).all()
    assert correlations.rho.notna().all()


def test_an_unknown_revision_is_named():
    effects, ablation = tables(5)
    with pytest.raises(CrosstimeError, match="no revision 'lat': did you mean 'late'"):
        change_correlations(effects, ablation, "early", "lat")
