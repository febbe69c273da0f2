from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from crosstime.errors import CrosstimeError
from crosstime.evolution.onsets import onset_by_kind, onset_correlation
from crosstime.evolution.pearson import pearson
from interventions import Bootstrap


@pytest.mark.parametrize("n", [3, 4, 10, 200])
@pytest.mark.parametrize("slope", [0.0, 0.3, -2.0])
def test_r_and_p_are_those_of_scipy(n: int, slope: float):
    generator = np.random.default_rng(n)
    x = generator.normal(size=n) + 1000
    y = slope * x + generator.normal(size=n)
    expected = stats.pearsonr(x, y)
    correlation = pearson(x, y, bootstrap=Bootstrap(100))
    assert correlation.r == pytest.approx(expected.statistic, abs=1e-10)
    assert correlation.p == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)
    assert correlation.n == n


def test_the_interval_is_that_of_resampled_pairs():
    generator = np.random.default_rng(0)
    x = generator.normal(size=30)
    y = x + generator.normal(size=30)
    correlation = pearson(x, y, bootstrap=Bootstrap(2000, seed=1))
    resamples = np.random.default_rng(9).integers(0, 30, (2000, 30))
    samples = [stats.pearsonr(x[rows], y[rows]).statistic for rows in resamples]
    assert [correlation.low, correlation.high] == pytest.approx(np.quantile(samples, [0.025, 0.975]), abs=0.03)
    assert correlation.low < correlation.r < correlation.high


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.8])
def test_the_interval_of_normal_pairs_is_that_of_fisher(rho):
    """tanh(atanh r +- 1.96 / sqrt(n - 3)), which holds for pairs from a normal distribution."""
    x, noise = np.random.default_rng(7).standard_normal((2, 2_000))
    y = rho * x + (1 - rho**2) ** 0.5 * noise
    correlation = pearson(x, y, bootstrap=Bootstrap(4_000, seed=2))
    z, step = np.arctanh(correlation.r), stats.norm.ppf(0.975) / np.sqrt(len(x) - 3)
    low, high = np.tanh(z - step), np.tanh(z + step)
    # The bounds agree to a fifth of the interval's width
    assert correlation.low == pytest.approx(low, abs=0.1 * (high - low) * 2)
    assert correlation.high == pytest.approx(high, abs=0.1 * (high - low) * 2)


def test_missing_and_constant_values_are_no_pairs():
    assert pearson([1, 2, np.nan, 4], [1, 2, 3, np.nan]).n == 2
    assert math.isnan(pearson([1, 2, np.nan, 4], [1, 2, 3, np.nan]).r)
    assert math.isnan(pearson([1, 1, 1, 1], [1, 2, 3, 4]).p)
    with pytest.raises(CrosstimeError, match="needs pairs; got 2 and 3"):
        pearson([1, 2], [1, 2, 3])


REVISIONS = ["step0", "step8", "main"]
ONSETS = pd.DataFrame({"feature": [0, 1, 2, 3, 4], "onset": pd.Categorical(["step0", "step8", "main", "step8", None])})


def test_onset_and_complexity_are_joined_by_feature():
    scores = pd.DataFrame({"feature": [3, 2, 0, 4, 9], "complexity": [2.0, 5.0, 1.0, 4.0, 3.0]})
    correlation = onset_correlation(ONSETS, scores, REVISIONS, positions=[0.0, 8.0, 1000.0], bootstrap=Bootstrap(50))
    assert correlation.n == 3
    assert correlation.r == pytest.approx(stats.pearsonr([8, 1000, 0], [2, 5, 1]).statistic)


def test_the_mean_onset_of_each_kind_comes_earliest_first():
    kinds = pd.DataFrame({"feature": range(5), "kind": ["token", "induction", "induction", "token", "context"]})
    table = onset_by_kind(ONSETS, kinds, REVISIONS, bootstrap=Bootstrap(50))
    assert table.kind.tolist() == ["token", "induction"]
    assert table.onset.tolist() == [0.5, 1.5]
    assert table.n.tolist() == [2, 2]
    assert (table.low <= table.onset).all()
    assert (table.onset <= table.high).all()


def test_bad_input_is_one_sentence():
    scores = pd.DataFrame({"feature": [0], "rating": [1]})
    with pytest.raises(CrosstimeError, match="feature and complexity"):
        onset_correlation(ONSETS, scores, REVISIONS)
    with pytest.raises(CrosstimeError, match="no checkpoint 'step8'"):
        onset_correlation(ONSETS, scores, ["step0", "main"], score="rating")
    with pytest.raises(CrosstimeError, match="as many positions, not 1"):
        onset_correlation(ONSETS, scores, REVISIONS, score="rating", positions=[1.0])
