"""Is a feature specific to a checkpoint, or could its effects as well have come in another order? Permutation tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.effects.relie import relative
from crosstime.errors import CrosstimeError

_AT_ONCE = 1 << 22


def specificity_test(
    per_prompt: Float[Tensor, "P K C"],
    revisions: Sequence[str],
    *,
    features: Sequence[int] | None = None,
    permutations: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether a checkpoint's share of a feature's effect (RelIE) is larger than the order of checkpoints explains.

    If a feature mattered alike at all checkpoints, the C effects on one prompt could be exchanged. So within every
    prompt they are put into random order, for all features alike, and RelIE is computed anew::

        p = (1 + #{permutations with RelIE_c >= the observed}) / (1 + permutations)
        q = p after Benjamini and Hochberg, over all features and checkpoints

    Args:
        per_prompt: effect of each of K features on each of P prompts at each checkpoint (`Effects.per_prompt`).
        revisions: the C checkpoints.
        features: numbers of the K features; default 0, 1, ...
        permutations, seed: how many orders are drawn, and from which seed.

    Returns:
        One row for each feature and checkpoint: feature, revision, relie, p, q; NaN for a feature without any effect.

    Raises:
        CrosstimeError: fewer than two checkpoints or prompts, names that do not fit, or no permutations.

    Examples:
        >>> effects = torch.tensor([[[0.0, 1.0]]]).repeat(30, 1, 1)  # all of it at the second checkpoint
        >>> specificity_test(effects, ["step0", "main"], permutations=999).p.round(3).tolist()
        [1.0, 0.001]

    Source: Fisher's permutation test; Benjamini and Hochberg 1995 for q.
    """
    n_prompts, n_features, n_checkpoints = per_prompt.shape
    numbered = list(range(n_features)) if features is None else list(features)
    if len(revisions) != n_checkpoints or len(numbered) != n_features:
        raise CrosstimeError(
            f"{len(revisions)} revisions and {len(numbered)} features do not fit effects of {n_features} features at "
            f"{n_checkpoints} checkpoints."
        )
    if n_checkpoints < 2 or n_prompts < 2 or permutations < 1:
        raise CrosstimeError(
            "A permutation test needs at least two checkpoints, two prompts and one permutation; got "
            f"{n_checkpoints}, {n_prompts} and {permutations}."
        )
    values = per_prompt.double()
    observed = relative(values.mean(0))
    at_least = torch.zeros_like(observed)
    flat = values.permute(0, 2, 1).reshape(n_prompts * n_checkpoints, n_features)
    at_once = max(1, _AT_ONCE // (n_prompts * n_checkpoints * n_checkpoints))
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < permutations:
        count = min(at_once, permutations - done)
        drawn = torch.rand(count, n_prompts, n_checkpoints, generator=generator).argsort(-1)
        # out[r, c] = sum over prompts of the effect that order r put into place c: a product with one-hot rows.
        orders = torch.nn.functional.one_hot(drawn, n_checkpoints).permute(0, 2, 1, 3).double()
        means = orders.reshape(count * n_checkpoints, -1) @ flat / n_prompts
        shares = relative(means.reshape(count, n_checkpoints, n_features).transpose(1, 2))
        # Sums in another order differ by rounding, which must not decide between equal shares.
        at_least += (shares >= observed - 1e-12).sum(0)
        done += count
    p = torch.where(observed.isnan(), torch.nan, (1 + at_least) / (1 + permutations))
    q = torch.from_numpy(benjamini_hochberg(p.flatten().numpy())).reshape(p.shape)
    return pd.DataFrame(
        {
            "feature": np.repeat(numbered, n_checkpoints),
            "revision": list(revisions) * n_features,
            "relie": observed.flatten().numpy(),
            "p": p.flatten().numpy(),
            "q": q.flatten().numpy(),
        }
    )


def benjamini_hochberg(p: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """False discovery rate at which each test would pass: ``q_(i) = min_{j >= i} p_(j) N / j``; NaN stays NaN.

    Examples:
        >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, np.nan])).tolist()
        [0.03, 0.04, 0.04, nan]
    """
    out = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    out[order] = np.minimum(1, np.minimum.accumulate(scaled[::-1])[::-1])
    return out
