"""Cohen's kappa: whether two people, or two crosscoders, assign the same labels.

scikit-learn's `cohen_kappa_score` takes labels, while the interval needs kappa of thousands of resampled tables at a
time; and scikit-learn is no dependency of this package.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crosstime.errors import CrosstimeError
from interventions import Bootstrap, interval


@dataclass(frozen=True)
class Kappa:
    """Agreement of two raters beyond chance.

    Attributes:
        kappa: 1 for full agreement, 0 for chance; NaN where both raters always assign the same single label.
        low, high: percentile interval over items.
        agreement: share of items with the same label.
        n: number of items.
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
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
) -> Kappa:
    """Cohen's kappa of two raters' labels of the same items, with a bootstrap interval over items.

    ::

        kappa = (p_o - p_e) / (1 - p_e)      p_o = share of equal labels      p_e = sum over labels of p_first p_second

    Args:
        first, second: one label for each item, in the same order.
        bootstrap: of the interval.

    Raises:
        CrosstimeError: the numbers of labels differ, or there are none.

    Examples:
        >>> cohens_kappa(["yes", "yes", "no", "no"], ["yes", "no", "no", "no"]).kappa
        0.5

    Source: Cohen 1960, A coefficient of agreement for nominal scales.
    """
    if len(first) != len(second) or not len(first):
        raise CrosstimeError(f"Kappa compares labels of the same items; got {len(first)} and {len(second)}.")

    # The contingency table, as counts of its cells
    label_index = {label: index for index, label in enumerate(dict.fromkeys([*first, *second]))}
    n_items, n_labels = len(first), len(label_index)
    cells = np.array([label_index[a] * n_labels + label_index[b] for a, b in zip(first, second, strict=True)])
    counts = np.bincount(cells, minlength=n_labels * n_labels)
    table = counts.reshape(1, n_labels, n_labels) / n_items

    # Resample items by drawing the counts of the cells
    generator = np.random.default_rng(bootstrap.seed)
    resampled = generator.multinomial(n_items, counts / n_items, size=bootstrap.resamples)
    samples = _kappa(resampled.reshape(-1, n_labels, n_labels) / n_items)
    low, high = interval(torch.from_numpy(samples), bootstrap)

    return Kappa(
        kappa=float(_kappa(table)[0]),
        low=float(low),
        high=float(high),
        agreement=float(np.einsum("ii", table[0])),
        n=n_items,
    )


def _kappa(tables: np.ndarray) -> np.ndarray:
    """Kappa of each of N contingency tables of shares, ``N L L``; NaN where chance agreement is certain."""
    agreement = np.einsum("nii->n", tables)
    chance = (tables.sum(1) * tables.sum(2)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1 - 1e-12, (agreement - chance) / (1 - chance), np.nan)
