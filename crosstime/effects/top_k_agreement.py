"""Are the strongest features the same? Jaccard index and Kendall's tau of two lists of effects."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import kendalltau

from crosstime.errors import CrosstimeError


def top_k_agreement(
    first: Float[np.ndarray, " F"], second: Float[np.ndarray, " F"], k: int = 10
) -> tuple[float, float]:
    """Agreement of the k features with the largest |effect| in two lists of effects of the same features.

    ::

        Jaccard index  |A n B| / |A u B|, of the two sets A and B of at most k features
        Kendall's tau  tau-b of |effect| over the features of A u B, which takes ties into account

    A feature without any effect is in no set, and of equal effects those with lower numbers come first, as in
    `select_top`. Over A u B alone, tau is lower than over all features: a feature that is in one set only has another
    rank there.

    Args:
        first, second: indirect effects of F features.
        k: size of the sets.

    Returns:
        The Jaccard index, NaN if both sets are empty, and tau, NaN for fewer than two features in A u B, or if all
        effects of one list are equal.

    Raises:
        CrosstimeError: k below 1, or an effect that is NaN, which has no place in an order.

    Examples:
        >>> jaccard, tau = top_k_agreement(np.array([3.0, -2.0, 1.0, 0.0]), np.array([3.0, 1.0, 2.0, 0.0]), k=2)
        >>> round(jaccard, 3), round(tau, 3)
        (0.333, 0.333)

    Source: Jaccard 1912; Kendall 1945 for tau-b; Fagin, Kumar & Sivakumar 2003, "Comparing top k lists".
    """
    if k < 1:
        raise CrosstimeError(f"k must be at least 1, not {k}.")
    sizes = np.abs(np.stack([first, second]))
    if np.isnan(sizes).any():
        raise CrosstimeError(
            f"{int(np.isnan(sizes).sum()):,} effects are NaN; features without a known effect have no rank."
        )
    in_first, in_second = _top(sizes[0], k), _top(sizes[1], k)
    union = in_first | in_second
    if not union.any():
        return float("nan"), float("nan")
    jaccard = (in_first & in_second).sum() / union.sum()
    return float(jaccard), _tau(sizes[0][union], sizes[1][union])


def _top(sizes: Float[np.ndarray, " F"], k: int) -> Bool[np.ndarray, " F"]:
    """Whether a feature is among the k largest, and above zero."""
    selected = np.zeros(len(sizes), dtype=bool)
    # Only sizes that reach the k-th largest have to be in order, which is faster where there are many features
    threshold = np.partition(sizes, -k)[-k] if k < len(sizes) else 0.0
    candidates = np.flatnonzero((sizes >= threshold) & (sizes > 0))
    selected[candidates[np.argsort(-sizes[candidates], kind="stable")[:k]]] = True
    return selected


def _tau(first: Float[np.ndarray, " U"], second: Float[np.ndarray, " U"]) -> float:
    """Kendall's tau-b; NaN where it is 0/0."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(kendalltau(first, second).statistic)
