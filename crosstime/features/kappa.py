"""Do two people, or two crosscoders, give the same labels? Cohen's kappa."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from crosstime.errors import CrosstimeError


@dataclass(frozen=True)
class Kappa:
    """Agreement of two raters beyond chance.

    Attributes:
        kappa: 1 for full agreement, 0 for chance; NaN where both always give one and the same label.
        low, high: percentile interval over items.
        agreement: share of items with the same label.
        n: items.
    """

    kappa: float
    low: float
    high: float
    agreement: float
    n: int


def cohens_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    *,
    resamples: int = 2_000,
    seed: int = 0,
    level: float = 0.95,
) -> Kappa:
    """Cohen's kappa of two raters' labels of the same items, with a bootstrap interval over items.

    ::

        kappa = (p_o - p_e) / (1 - p_e)      p_o = share of equal labels      p_e = sum over labels of p_first p_second

    Args:
        first, second: one label an item, in the same order.
        resamples, seed, level: of the bootstrap.

    Raises:
        CrosstimeError: numbers of labels that differ, or none.

    Examples:
        >>> cohens_kappa(["yes", "yes", "no", "no"], ["yes", "no", "no", "no"]).kappa
        0.5

    Source: Cohen 1960, A coefficient of agreement for nominal scales.
    """
    if len(first) != len(second) or not len(first):
        raise CrosstimeError(f"Kappa compares labels of the same items; got {len(first)} and {len(second)}.")
    names = {label: place for place, label in enumerate(dict.fromkeys([*first, *second]))}
    n, size = len(first), len(names)
    cell = np.array([names[a] * size + names[b] for a, b in zip(first, second, strict=True)])
    observed = np.bincount(cell, minlength=size * size)
    counts = np.random.default_rng(seed).multinomial(n, observed / n, size=resamples)
    samples = _kappa(counts.reshape(-1, size, size) / n)
    defined = samples[np.isfinite(samples)]
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
    table = observed.reshape(1, size, size) / n
    return Kappa(float(_kappa(table)[0]), float(low), float(high), float(np.einsum("ii", table[0])), n)


def _kappa(table: np.ndarray) -> np.ndarray:
    same = np.einsum("nii->n", table)
    chance = (table.sum(1) * table.sum(2)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1 - 1e-12, (same - chance) / (1 - chance), np.nan)
