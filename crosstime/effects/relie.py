"""When in training a feature matters: RelIE, RelDec, classes of features, and which features to look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.errors import CrosstimeError

SPECIFIC, ABSENT = 0.7, 0.3
"""Thresholds of CTT: above .7 a feature belongs to one checkpoint of two, below .3 it is absent there."""


def relative(values: Float[Tensor, "... C"], *, undefined: float = float("nan")) -> Float[Tensor, "... C"]:
    """Each checkpoint's share of a feature's total: RelIE of effects, RelDec of decoder norms, one against all.

    ``|v_c| / sum_c' |v_c'|``. Where all are zero the share is 0/0 and stays NaN; CTT writes .5, which looks
    like a shared feature, and is to be had with ``undefined=0.5``.

    Args:
        values: effects or norms, checkpoints on the last axis.
        undefined: what stands for 0/0.

    Examples:
        >>> relative(torch.tensor([[1.0, -3.0], [0.0, 0.0]])).tolist()
        [[0.25, 0.75], [nan, nan]]

    Source: CTT (arXiv 2509.05291), section 3.2.
    """
    size = values.abs()
    total = size.sum(-1, keepdim=True)
    return torch.where(total > 0, size / total, undefined)


def relative_pairwise(
    earlier: Float[Tensor, ...], later: Float[Tensor, ...], *, undefined: float = float("nan")
) -> Float[Tensor, ...]:
    """The later of two checkpoints' share: ``|later| / (|earlier| + |later|)``; 1 is all later, 0 all earlier.

    Examples:
        >>> relative_pairwise(torch.tensor([1.0]), torch.tensor([3.0])).item()
        0.75
    """
    return relative(torch.stack([earlier, later], -1), undefined=undefined)[..., 1]


def relative_pairs(values: Float[Tensor, "*K C"], *, undefined: float = float("nan")) -> Float[Tensor, "*K C C"]:
    """Every pair of checkpoints: ``out[..., a, b] = |v_b| / (|v_a| + |v_b|)``, the share of b against a alone.

    ``out[..., a, b] + out[..., b, a] = 1`` where it is defined; a checkpoint against itself is 1/2.

    Args:
        values: effects or norms, checkpoints on the last axis.
        undefined: what stands for 0/0.

    Examples:
        >>> relative_pairs(torch.tensor([1.0, 3.0])).tolist()
        [[0.5, 0.75], [0.25, 0.5]]
    """
    earlier, later = values.unsqueeze(-1), values.unsqueeze(-2)
    return relative_pairwise(*torch.broadcast_tensors(earlier, later), undefined=undefined)


def classify(
    shares: Float[Tensor, "K C"], revisions: Sequence[str], *, absent: float = ABSENT, specific: float = SPECIFIC
) -> list[str]:
    """Name the checkpoints that each feature belongs to.

    Two checkpoints: a share above `specific` at one makes the feature that one's only, anything between
    is shared. More: the feature belongs to the checkpoints whose share is at least `absent`.

    Returns:
        ``"main only"``, ``"step64+main"``, ``"shared"`` (all of them), ``"spread"`` (no checkpoint has a share
        of `absent`; possible for more than three) or ``"undefined"`` (0/0).

    Raises:
        CrosstimeError: as many shares are needed as revisions.

    Examples:
        >>> shares = torch.tensor([[0.9, 0.1], [0.5, 0.5], [float("nan")] * 2])
        >>> classify(shares, ["step64", "main"])
        ['step64 only', 'shared', 'undefined']
    """
    if shares.shape[-1] != len(revisions):
        raise CrosstimeError(f"{len(revisions)} revisions do not fit shares of {shares.shape[-1]} checkpoints.")
    labels = []
    for row in shares.tolist():
        if any(share != share for share in row):
            labels.append("undefined")
            continue
        if len(row) == 2:
            members = [index for index, share in enumerate(row) if share > specific] or [0, 1]
        else:
            members = [index for index, share in enumerate(row) if share >= absent]
        if not members:
            labels.append("spread")
        elif len(members) == len(row):
            labels.append("shared")
        else:
            names = "+".join(revisions[index] for index in members)
            labels.append(f"{names} only" if len(members) == 1 else names)
    return labels


def select_top(effects: Float[Tensor, "C F"], k: int = 10, *, by: str = "magnitude") -> list[int]:
    """Features worth looking at: the union over checkpoints of each one's k with the largest effect.

    Args:
        effects: indirect effect of every feature at every checkpoint.
        k: how many at each checkpoint; features without any effect are never taken.
        by: ``magnitude`` (|IE|), ``positive`` (largest IE: features that help), ``negative`` (smallest), or
            ``both`` (top and bottom k by signed IE).

    Returns:
        Feature numbers, those with the largest |IE| at any checkpoint first.

    Raises:
        CrosstimeError: an unknown `by`, or k below 1.

    Examples:
        >>> select_top(torch.tensor([[0.0, 2.0, -3.0], [1.0, 0.0, 0.0]]), k=1)
        [2, 0]
    """
    keys = {
        "magnitude": [effects.abs()],
        "positive": [effects],
        "negative": [-effects],
        "both": [effects, -effects],
    }
    if by not in keys:
        raise CrosstimeError(f"Features are selected by one of {', '.join(keys)}, not {by!r}.")
    if k < 1:
        raise CrosstimeError(f"k must be at least 1, not {k}.")
    chosen: set[int] = set()
    for key in keys[by]:
        for row in key:
            values, indices = row.topk(min(k, len(row)))
            chosen.update(indices[values > 0].tolist())
    strongest = effects.abs().amax(0)
    return sorted(chosen, key=lambda feature: (-float(strongest[feature]), feature))
