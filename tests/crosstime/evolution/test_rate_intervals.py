"""Intervals of rates over trainings: by hand, and their coverage of counts whose rate and dispersion are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm, t

from crosstime.errors import CrosstimeError
from crosstime.evolution.rate_intervals import rate_intervals

LEVEL = 0.95


def interval(counts: list[float], sizes: list[float], *, level: float = LEVEL) -> tuple[float, ...]:
    """The rate and the interval of a single claim."""
    return tuple(rate_intervals(np.array(counts)[:, None], np.array(sizes), level=level)[0])


@pytest.mark.parametrize(("k", "m"), [(0, 40), (3, 40), (40, 40), (7, 1000)])
def test_the_interval_of_one_seed_is_that_of_clopper_and_pearson(k, m):
    rate, low, high = interval([float(k)], [float(m)])
    assert rate == k / m
    # At the bounds, as many or more, and as few or fewer, have a probability of 2.5 %
    if k > 0:
        assert binom.sf(k - 1, m, low) == pytest.approx(0.025, rel=1e-6)
    if k < m:
        assert binom.cdf(k, m, high) == pytest.approx(0.025, rel=1e-6)
    assert (low == 0) == (k == 0)
    assert (high == 1) == (k == m)


def test_seeds_that_differ_count_as_fewer_features_and_few_seeds_as_fewer_still():
    counts, sizes = [2.0, 30.0, 0.0, 10.0], [100.0, 120.0, 90.0, 90.0]
    rate = 42 / 400
    # By hand, with and without the claim: the squares of both are equal, so that each gives the same dispersion
    squares = sum((k - m * rate) ** 2 / (m * rate * (1 - rate)) for k, m in zip(counts, sizes, strict=True))
    share = (norm.ppf(0.975) / t.ppf(0.975, 3)) ** 2 / (squares / 3)
    expected = interval([42 * share], [400 * share])
    assert interval(counts, sizes) == pytest.approx((rate, *expected[1:]), rel=1e-9)
    # Seeds that agree are worth all of their features
    assert interval([10.0, 11.0, 9.0, 10.0], [100.0] * 4) == pytest.approx(interval([40.0], [400.0]))


def test_the_dispersion_is_that_of_all_claims_or_of_a_claim_that_varies_more():
    counts, sizes = np.array([[10.0, 4.0, 0.0], [11.0, 9.0, 0.0], [9.0, 26.0, 0.0]]), np.full(3, 50.0)
    intervals = rate_intervals(counts, sizes)
    rates = np.array([30, 39, 0, 81]) / 150
    cells = np.concatenate([counts, 50 - counts.sum(1, keepdims=True)], 1)
    common, own = 0.0, []
    for j in (0, 1, 3):
        square = sum((cells[s, j] - 50 * rates[j]) ** 2 / (50 * rates[j]) for s in range(3))
        common += square / (2 * 2)
        own.append(square / (1 - rates[j]) / 2)
    assert own[0] < common < own[1]
    widening = (norm.ppf(0.975) / t.ppf(0.975, 4)) ** 2
    for j, dispersion in enumerate((common, own[1], common)):
        share = min(1.0, widening / dispersion)
        by_hand = interval([rates[j] * 150 * share], [150 * share])
        assert intervals[j].tolist() == pytest.approx([rates[j], *by_hand[1:]], rel=1e-9)


def test_a_seed_without_features_changes_nothing():
    assert interval([3.0, 0.0, 5.0], [40.0, 0.0, 50.0]) == interval([3.0, 5.0], [40.0, 50.0])


def test_impossible_counts_and_levels_are_refused():
    for counts, sizes in (([[3.0, 3.0]], [5.0]), ([[0.0]], [0.0])):
        with pytest.raises(CrosstimeError, match="No feature has two claims of one source"):
            rate_intervals(np.array(counts), np.array(sizes))
    with pytest.raises(CrosstimeError, match="between 0 and 1, not 95"):
        interval([1.0], [5.0], level=95.0)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.2, 0.5])
def test_the_interval_covers_the_rate_of_features_that_depend_on_each_other(seeds, rate):
    """Counts of a claim beside four others, Dirichlet-multinomial with known correlations of the features."""
    generator = np.random.default_rng(0)
    shares = np.array([rate, *((1 - rate) * np.array([0.6, 0.25, 0.1, 0.05]))])
    draws = 300
    for features in (40, 150):
        # With one seed the interval supposes independent features
        for correlation in (0.0,) if seeds == 1 else (0.0, 0.02, 0.05):
            covered = 0
            for _ in range(draws):
                counts = np.empty((seeds, 5))
                for seed in range(seeds):
                    drawn = shares
                    if correlation:
                        gammas = generator.gamma(np.maximum(shares * (1 / correlation - 1), 1e-12))
                        drawn = gammas / gammas.sum()
                    counts[seed] = generator.multinomial(features, drawn)
                _, low, high = rate_intervals(counts, np.full(seeds, float(features)))[0]
                covered += low <= rate <= high
            # Three standard errors of the share that is covered below the level
            assert covered / draws >= LEVEL - 3 * (LEVEL * (1 - LEVEL) / draws) ** 0.5, (features, correlation)
