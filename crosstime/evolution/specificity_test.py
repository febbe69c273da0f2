"""Is a feature specific to a checkpoint, or would its effects fit any order of the checkpoints? A permutation test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import false_discovery_control
from torch import Tensor

from crosstime.effects.relie import relative
from crosstime.errors import CrosstimeError
from crosstime.machine.long_table import long_table

CHUNK = 1 << 22
"""Numbers of the one-hot permutations that are in memory at a time (32 MB in float64)."""
ROUNDING, MAX_ROUNDING = 1e-12, 1e-9
"""Differences of shares, and of shares in units of their spread, that count as rounding."""


def specificity_test(
    per_prompt: Float[Tensor, "P K C"],
    revisions: Sequence[str],
    *,
    features: Sequence[int] | None = None,
    permutations: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether a checkpoint's share of a feature's effect (RelIE) is larger than a random order would make it.

    If a feature mattered equally at all checkpoints, the C effects on one prompt could be exchanged. So the effects of
    each prompt are permuted over checkpoints at random, with the same permutations for all features, and RelIE is
    computed again::

        p = (1 + #{permutations with RelIE_c >= the observed}) / (1 + permutations)
        q = p after the correction of Benjamini and Hochberg, over all features and checkpoints
        p_max = p after the step-down max-T of Westfall and Young, over all features and checkpoints, of the shares
                in units of their spread over the permutations

    q bounds the share of false claims among those that are made. p_max bounds the probability that any is false, and
    follows from the permutations themselves, whatever the correlation of the features.

    The hypothesis that is rejected is that the effects on each prompt are exchangeable between checkpoints: their whole
    distribution is the same, not only their mean size. Effects that differ only in spread or sign can reject it too.
    A small p says that the share is larger than chance would make it, not that it is large, nor that the feature is
    absent elsewhere; read it beside RelIE and its interval.

    Args:
        per_prompt: effect of each of K features on each of P prompts at each checkpoint (`Attribution.per_prompt`).
        revisions: names of the C checkpoints.
        features: numbers of the K features; by default 0, 1, ...
        permutations: number of permutations.
        seed: of the permutations.

    Returns:
        One row for each feature and checkpoint: feature, revision, relie, p, q, p_max; NaN for a feature without any
        effect.

    Raises:
        CrosstimeError: fewer than two checkpoints or prompts, revisions or features that do not fit the effects, or no
            permutations.

    Examples:
        >>> effects = torch.tensor([[[0.0, 1.0]]]).repeat(30, 1, 1)  # all of it at the second checkpoint
        >>> specificity_test(effects, ["step0", "main"], permutations=999).p.round(3).tolist()
        [1.0, 0.001]

    Source: Fisher's permutation test; Benjamini and Hochberg 1995 for q; Westfall and Young 1993, "Resampling-Based
    Multiple Testing", section 4.1, for p_max.
    """
    n_prompts, n_features, n_checkpoints = per_prompt.shape
    feature_numbers = list(range(n_features)) if features is None else list(features)
    if len(revisions) != n_checkpoints or len(feature_numbers) != n_features:
        raise CrosstimeError(
            f"{len(revisions)} revisions and {len(feature_numbers)} features do not fit effects of {n_features} "
            f"features at {n_checkpoints} checkpoints."
        )
    if n_checkpoints < 2 or n_prompts < 2 or permutations < 1:
        raise CrosstimeError(
            "A permutation test needs at least two checkpoints, two prompts and one permutation; got "
            f"{n_checkpoints}, {n_prompts} and {permutations}."
        )
    values = per_prompt.double()
    observed = relative(values.mean(0))

    # Count the permutations with a share at least as large, and add up the moments of the shares
    at_least = torch.zeros_like(observed)
    shift, square = torch.zeros_like(observed), torch.zeros_like(observed)
    for shares in _permuted_shares(values, permutations, seed):
        # Sums in another order differ by rounding, which must not decide between equal shares.
        at_least += (shares >= observed - ROUNDING).sum(0)
        shift += (shares - observed).sum(0)
        square += (shares - observed).square().sum(0)

    # Turn the counts into p and q, and both into p of the largest deviation
    p = torch.where(observed.isnan(), torch.nan, (1 + at_least) / (1 + permutations))
    q = benjamini_hochberg(p.flatten().numpy()).reshape(p.shape)
    mean = shift / (1 + permutations)
    deviation = (square / (1 + permutations) - mean.square()).clamp_min(0).sqrt()
    p_max = _max_t(values, observed, observed + mean, deviation, permutations, seed)
    return long_table(
        {"feature": feature_numbers, "revision": revisions}, {"relie": observed, "p": p, "q": q, "p_max": p_max}
    )


def _permuted_shares(values: Float[Tensor, "P K C"], permutations: int, seed: int) -> Iterator[Float[Tensor, "R K C"]]:
    """RelIE of every feature under each permutation, chunk by chunk; the same seed gives the same permutations."""
    n_prompts, n_features, n_checkpoints = values.shape
    flat = values.permute(0, 2, 1).reshape(n_prompts * n_checkpoints, n_features)
    chunk = max(1, CHUNK // (n_prompts * n_checkpoints * n_checkpoints))
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, permutations, chunk):
        size = min(chunk, permutations - start)
        orders = torch.rand(size, n_prompts, n_checkpoints, generator=generator).argsort(-1)
        # Effects that a permutation moves to checkpoint c, summed over prompts: a product with one-hot rows
        one_hot = torch.nn.functional.one_hot(orders, n_checkpoints).permute(0, 2, 1, 3).double()
        means = one_hot.reshape(size * n_checkpoints, -1) @ flat / n_prompts
        yield relative(means.reshape(size, n_checkpoints, n_features).transpose(1, 2))


def _max_t(
    values: Float[Tensor, "P K C"],
    observed: Float[Tensor, "K C"],
    mean: Float[Tensor, "K C"],
    deviation: Float[Tensor, "K C"],
    permutations: int,
    seed: int,
) -> Float[Tensor, "K C"]:
    """The step-down max-T of Westfall and Young, of shares in units of their spread over the permutations.

    Hypotheses are taken in order of their T. Each is compared with the largest T*, in the same permutation, of those
    that are not larger than it, so that the correlation of features and checkpoints is taken into account.
    """

    def standardised(shares: Float[Tensor, "... K C"]) -> Float[Tensor, "... K C"]:
        return torch.where(deviation > ROUNDING, (shares - mean) / deviation, 0.0)

    # Order the hypotheses that can be tested
    tested = (~observed.isnan()).flatten().nonzero().squeeze(1)
    t = standardised(observed).flatten()[tested]
    order = torch.argsort(t, descending=True, stable=True)
    place, t = tested[order], t[order]

    # Count the permutations whose largest T* is at least as large; RelIE is 0/0 where effects cancel in all of them
    at_least = torch.zeros_like(t)
    for shares in _permuted_shares(values, permutations, seed):
        permuted = standardised(shares).flatten(1)[:, place].nan_to_num(-torch.inf)
        largest = permuted.flip(1).cummax(1).values.flip(1) if len(place) else permuted
        at_least += (largest >= t - MAX_ROUNDING).sum(0)

    # A hypothesis is not rejected before one with a larger T
    p_max = torch.full_like(observed, torch.nan).flatten()
    ordered = (1 + at_least) / (1 + permutations)
    p_max[place] = ordered.cummax(0).values if len(place) else ordered
    return p_max.reshape(observed.shape)


def benjamini_hochberg(p: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """False discovery rate at which each test would pass: ``q_(i) = min_{j >= i} p_(j) N / j``; NaN stays NaN.

    Examples:
        >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, np.nan])).tolist()
        [0.03, 0.04, 0.04, nan]
    """
    q = np.full(len(p), np.nan)
    tested = ~np.isnan(p)
    q[tested] = false_discovery_control(p[tested])
    return q
