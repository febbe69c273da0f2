"""Pearson's correlation with its p-value and a bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crosstime.errors import CrosstimeError
from interventions import Bootstrap, interval


@dataclass(frozen=True)
class Correlation:
    """Pearson's correlation of n pairs.

    Attributes:
        r: the correlation.
        p: two-sided p-value under no correlation.
        low, high: percentile interval over pairs.
        n: number of pairs.
    """

    r: float
    p: float
    low: float
    high: float
    n: int


def pearson(
    x: Sequence[float | int] | np.ndarray,
    y: Sequence[float | int] | np.ndarray,
    *,
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
) -> Correlation:
    """Pearson's correlation, its p-value by Student's t with n - 2 degrees of freedom, and a bootstrap interval.

    Pairs with a missing number are left out. With fewer than three pairs, or where x or y is constant, everything but n
    is NaN.

    Args:
        x, y: the pairs.
        bootstrap: of the interval over pairs.

    Raises:
        CrosstimeError: the numbers of values differ.

    Examples:
        >>> correlation = pearson([1, 2, 3, 4], [1, 2, 3, 5])
        >>> round(correlation.r, 3), round(correlation.p, 3)
        (0.983, 0.017)
    """
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise CrosstimeError(f"A correlation needs pairs; got {first.size} and {second.size} values.")

    # Leave out incomplete pairs
    complete = np.isfinite(first) & np.isfinite(second)
    first, second = first[complete], second[complete]
    n, nan = int(complete.sum()), float("nan")
    if n < 3 or first.std() == 0 or second.std() == 0:
        return Correlation(nan, nan, nan, nan, n)

    # Standardize, so that sums of products keep their digits
    first, second = (first - first.mean()) / first.std(), (second - second.mean()) / second.std()
    r = float(np.clip(np.mean(first * second), -1, 1))

    # Resample pairs by drawing their counts
    counts = np.random.default_rng(bootstrap.seed).multinomial(n, np.full(n, 1 / n), size=bootstrap.resamples) / n
    first_mean, second_mean = counts @ first, counts @ second
    covariance = counts @ (first * second) - first_mean * second_mean
    variance_product = (counts @ first**2 - first_mean**2) * (counts @ second**2 - second_mean**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(variance_product)
        samples = np.where(spread > 1e-12, covariance / spread, np.nan)
    low, high = interval(torch.from_numpy(samples), bootstrap)

    return Correlation(r, incomplete_beta((n - 2) / 2, 0.5, 1 - r * r), float(low), float(high), n)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method).

    Examples:
        >>> round(incomplete_beta(1.0, 1.0, 0.25), 12)
        0.25

    Source: Abramowitz and Stegun, 26.5.8.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    # The continued fraction converges fast on one side of the mean only
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a

    # Lentz's method: c and d are ratios of successive numerators and denominators
    tiny = 1e-300
    f, c, d = 1.0, 1.0, 0.0
    for step in range(1_000):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / (1 + term * d or tiny)
        c = 1 + term / c or tiny
        f *= c * d
        if step and abs(1 - c * d) < 1e-15:
            break
    return front * (f - 1)
