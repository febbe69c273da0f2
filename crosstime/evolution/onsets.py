"""Pearson's correlation with its p-value and interval, and what it says of onsets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from crosstime.errors import CrosstimeError
from interventions import Bootstrap, bootstrap_interval


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of n pairs, the two-sided p-value of no correlation, and a percentile interval over pairs."""

    r: float
    p: float
    low: float
    high: float
    n: int


def pearson(
    x: Sequence[float | int] | np.ndarray,
    y: Sequence[float | int] | np.ndarray,
    *,
    resamples: int = 2_000,
    seed: int = 0,
    level: float = 0.95,
) -> Correlation:
    """Pearson's correlation, its p-value by Student's t with n - 2 degrees of freedom, and a bootstrap interval.

    Pairs in which either number is missing are left out. All but n is NaN with fewer than three pairs, or where one
    side is constant.

    Args:
        x, y: the pairs.
        resamples, seed, level: of the bootstrap over pairs.

    Raises:
        CrosstimeError: numbers of values that differ.

    Examples:
        >>> found = pearson([1, 2, 3, 4], [1, 2, 3, 5])
        >>> round(found.r, 3), round(found.p, 3)
        (0.983, 0.017)
    """
    pairs = [np.asarray(values, dtype=float) for values in (x, y)]
    if pairs[0].shape != pairs[1].shape or pairs[0].ndim != 1:
        raise CrosstimeError(f"A correlation needs pairs; got {pairs[0].size} and {pairs[1].size} values.")
    kept = np.isfinite(pairs[0]) & np.isfinite(pairs[1])
    first, second = (values[kept] for values in pairs)
    n, nothing = int(kept.sum()), float("nan")
    if n < 3 or first.std() == 0 or second.std() == 0:
        return Correlation(nothing, nothing, nothing, nothing, n)
    # Centred and on one scale, sums of products keep their digits.
    first, second = ((values - values.mean()) / values.std() for values in (first, second))
    r = float(np.clip(np.mean(first * second), -1, 1))
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    mean_1, mean_2 = counts @ first, counts @ second
    covariance = counts @ (first * second) - mean_1 * mean_2
    spread = np.sqrt((counts @ first**2 - mean_1**2) * (counts @ second**2 - mean_2**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        samples = np.where(spread > 1e-12, covariance / spread, np.nan)
    samples = samples[np.isfinite(samples)]
    tail = (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail]) if len(samples) else (nothing, nothing)
    return Correlation(r, incomplete_beta((n - 2) / 2, 0.5, 1 - r * r), float(low), float(high), n)


def onset_correlation(
    onsets: pd.DataFrame,
    scores: pd.DataFrame,
    revisions: Sequence[str],
    *,
    score: str = "complexity",
    positions: Sequence[float | int] | None = None,
    resamples: int = 2_000,
    seed: int = 0,
) -> Correlation:
    """Do more complex features come later? Pearson's r of a feature's onset with a score that people gave it.

    Args:
        onsets: a table with the columns feature and onset, as `evolve` gives them.
        scores: a table with the columns feature and `score`, as `read_annotations` gives them.
        revisions: the checkpoints in order of training.
        score: which column.
        positions: what stands for each checkpoint, such as the logarithm of its tokens; default 0, 1, 2, ...
        resamples, seed: of the bootstrap over features.

    Raises:
        CrosstimeError: a column that is missing, or an onset that is none of the revisions.

    Examples:
        >>> evolution = pd.DataFrame({"feature": [0, 1, 2], "onset": ["a", "b", "c"]})
        >>> notes = pd.DataFrame({"feature": [0, 1, 2], "complexity": [1, 3, 5]})
        >>> round(onset_correlation(evolution, notes, ["a", "b", "c"]).r, 6)
        1.0

    Source: EoC (arXiv 2509.17196), on complexity and emergence.
    """
    for table, column in ((onsets, "onset"), (scores, score)):
        if column not in table or "feature" not in table:
            raise CrosstimeError(f"Onsets are compared by the columns feature and {column}, which a table lacks.")
    place = _places(revisions, positions)
    _refuse_unknown(onsets.onset, place)
    both = onsets[["feature", "onset"]].merge(scores[["feature", score]], on="feature")
    numbers = both.onset.astype(object).map(place).astype(float)
    return pearson(numbers.to_numpy(), both[score].to_numpy(float), resamples=resamples, seed=seed)


def onset_by_kind(
    onsets: pd.DataFrame,
    kinds: pd.DataFrame,
    revisions: Sequence[str],
    *,
    positions: Sequence[float | int] | None = None,
    resamples: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Which kinds of features come first? The mean onset of each kind, with an interval over features.

    Args:
        onsets: a table with the columns feature and onset, as `evolve` gives them.
        kinds: a table with the columns feature and kind, as `feature_kinds` gives them.
        revisions, positions: see `onset_correlation`.
        resamples, seed: of the bootstrap over features.

    Returns:
        One row a kind: kind, n, onset (mean position), low, high, the earliest first.

    Raises:
        CrosstimeError: an onset that is none of the revisions.
    """
    place = _places(revisions, positions)
    _refuse_unknown(onsets.onset, place)
    both = onsets[["feature", "onset"]].dropna().merge(kinds[["feature", "kind"]], on="feature")
    rows = []
    for kind, own in both.groupby("kind", sort=True):
        numbers = torch.tensor(own.onset.astype(object).map(place).to_numpy(float))
        low, high = bootstrap_interval(numbers, Bootstrap(resamples, seed))
        rows.append(
            {"kind": kind, "n": len(own), "onset": numbers.mean().item(), "low": low.item(), "high": high.item()}
        )
    table = pd.DataFrame(rows, columns=["kind", "n", "onset", "low", "high"])
    return table.sort_values(["onset", "kind"], ignore_index=True)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method).

    Examples:
        >>> round(incomplete_beta(1.0, 1.0, 0.25), 12)
        0.25

    Source: Abramowitz and Stegun, 26.5.8.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    tiny = 1e-300
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
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


def _places(revisions: Sequence[str], positions: Sequence[float | int] | None) -> dict[str, float]:
    numbers = list(range(len(revisions))) if positions is None else list(positions)
    if len(numbers) != len(revisions):
        raise CrosstimeError(f"{len(revisions)} checkpoints need as many positions, not {len(numbers)}.")
    return dict(zip(revisions, map(float, numbers), strict=True))


def _refuse_unknown(onsets: pd.Series, place: dict[str, float]) -> None:
    unknown = [str(name) for name in onsets.dropna().unique() if name not in place]
    if unknown:
        raise CrosstimeError(f"There is no checkpoint {unknown[0]!r}; onsets are among {', '.join(place)}.")
