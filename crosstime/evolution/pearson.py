"""Pearson's correlation with its p-value and a bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import betainc

from crosstime.errors import CrosstimeError
from interventions import Bootstrap, interval
from interventions.bootstrap import resample_counts


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
    counts = resample_counts(n, bootstrap) / n
    first_mean, second_mean = counts @ first, counts @ second
    covariance = counts @ (first * second) - first_mean * second_mean
    variance_product = (counts @ first**2 - first_mean**2) * (counts @ second**2 - second_mean**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(variance_product)
        samples = np.where(spread > 1e-12, covariance / spread, np.nan)
    low, high = interval(torch.from_numpy(samples), bootstrap)

    # Student's t of r, squared, has the distribution function of a beta distribution
    p = float(betainc((n - 2) / 2, 0.5, 1 - r * r))
    return Correlation(r, p, float(low), float(high), n)
