"""Rates of claims over several trainings, with intervals that include how much trainings differ."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import betaincinv
from scipy.stats import norm, t

from crosstime.errors import CrosstimeError


def rate_intervals(
    counts: Float[np.ndarray, "S J"], sizes: Float[np.ndarray, " S"], *, level: float = 0.95
) -> Float[np.ndarray, "J 3"]:
    """The rate of each claim over S trainings, and its interval.

    ::

        rate_j      k_j / m                                    k_j = sum_s k_sj,  m = sum_s m_s
        X_j         sum_s (k_sj - m_s rate_j)^2 / (m_s rate_j (1 - rate_j)) / (S - 1)
        X           sum_sj (k_sj - m_s rate_j)^2 / (m_s rate_j) / ((S - 1) (J - 1))
        d_j         min(1, (z / t)^2 / max(X, X_j))            1 with one training
        interval    Clopper-Pearson, of k_j d_j of m d_j features

    The claims of a source are a partition of its features, with "no claim" as one more where some have none, and J
    counts those that occur. X is their common dispersion, 1 where features are independent of each other, as in a
    Dirichlet-multinomial distribution of counts; it is known where a single claim's is not, such as that of a claim
    which no training makes. X_j is the dispersion of one claim, for a claim that varies more than the others. z and t
    are quantiles of the normal distribution and of Student's with (S - 1) (J - 1) degrees of freedom, because few
    trainings say little of a dispersion. With one training there is none: the interval supposes independent features,
    and leaves out how much trainings differ.

    Args:
        counts: features with each claim, of each training; no feature has two claims.
        sizes: features of each training.
        level: level of the intervals.

    Returns:
        Rate, lower and upper bound of each claim.

    Raises:
        CrosstimeError: the level is not between 0 and 1, no training has a feature, or more features have a claim
            than there are.

    Examples:
        >>> import numpy as np
        >>> rate_intervals(np.array([[0.0]]), np.array([100.0])).round(4).tolist()
        [[0.0, 0.0, 0.0362]]
        >>> rate_intervals(np.array([[2.0, 30.0], [6.0, 25.0], [1.0, 36.0]]), np.full(3, 50.0)).round(2).tolist()
        [[0.06, 0.01, 0.21], [0.61, 0.41, 0.78]]

    Source: Clopper & Pearson 1934; Rao & Scott 1992 for the division by the dispersion; Korn & Graubard 1998 for the
        quantile of Student's distribution; Mosimann 1962 for one dispersion of all cells.
    """
    if not 0 < level < 1:
        raise CrosstimeError(f"The level of an interval is between 0 and 1, not {level}.")
    without = sizes - counts.sum(1)
    if sizes.sum() <= 0 or (without < 0).any():
        raise CrosstimeError("No feature has two claims of one source, and a rate needs at least one feature.")

    # Trainings without a feature say nothing
    counts, sizes, without = (array[sizes > 0] for array in (counts, sizes, without))
    successes, trials = counts.sum(0), float(sizes.sum())
    share = _independent_share(counts, sizes, without, level)

    # Clopper-Pearson, of the independent features among them
    k, m, tail = successes * share, trials * share, (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, betaincinv(np.maximum(k, 1e-300), m - k + 1, tail), 0.0)
        high = np.where(k < m, betaincinv(k + 1, np.maximum(m - k, 1e-300), 1 - tail), 1.0)
    rates = successes / trials
    return np.stack([rates, np.minimum(low, rates), np.maximum(high, rates)], 1)


def _independent_share(
    counts: Float[np.ndarray, "S J"], sizes: Float[np.ndarray, " S"], without: Float[np.ndarray, " S"], level: float
) -> Float[np.ndarray, " J"]:
    """How many independent features a feature stands for, at most 1, for each claim: d_j of `rate_intervals`."""
    n_trainings, n_claims = counts.shape
    # Claims that occur, and "no claim"
    cells = np.concatenate([counts, without[:, None]], 1)
    rates = cells.sum(0) / sizes.sum()
    occur = rates > 0
    freedom = (n_trainings - 1) * (int(occur.sum()) - 1)
    if freedom == 0:
        return np.ones(n_claims)

    # Dispersion of all of them, and of each
    squares = (cells - np.outer(sizes, rates))[:, occur] ** 2 / np.outer(sizes, rates[occur])
    common = squares.sum() / freedom
    own = np.zeros(len(rates))
    own[occur] = squares.sum(0) / (1 - rates[occur]) / (n_trainings - 1)

    # Few trainings leave the dispersion uncertain
    tail = (1 - level) / 2
    widening = (norm.isf(tail) / t.isf(tail, freedom)) ** 2
    share: np.ndarray = np.minimum(1.0, widening / np.maximum(np.maximum(common, own[:n_claims]), 1e-12))
    return share
