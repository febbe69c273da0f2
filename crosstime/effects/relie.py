"""Relative effects: at which checkpoints a feature matters, as shares (RelIE, RelDec) and as classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.errors import CrosstimeError

SPECIFIC, ABSENT = 0.7, 0.3
"""Thresholds of CTT: above .7 a feature belongs to one checkpoint of two, below .3 it is absent there."""


def relative(values: Float[Tensor, "... C"], *, undefined: float = float("nan")) -> Float[Tensor, "... C"]:
    """Share of each checkpoint in a feature's total: RelIE of effects, RelDec of decoder norms, one against all.

    ``|v_c| / sum_c' |v_c'|``. Where all values are zero the share is 0/0 and stays NaN. CTT writes .5 there, which
    looks like a shared feature; ``undefined=0.5`` reproduces it.

    Args:
        values: effects or norms, with the checkpoints on the last axis.
        undefined: value of 0/0.

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
    """Share of the later of two checkpoints: ``|later| / (|earlier| + |later|)``; 1 is all later, 0 all earlier.

    Args:
        earlier, later: effects or norms at the two checkpoints, of the same shape.
        undefined: value of 0/0.

    Examples:
        >>> relative_pairwise(torch.tensor([1.0]), torch.tensor([3.0])).item()
        0.75
    """
    return relative(torch.stack([earlier, later], -1), undefined=undefined)[..., 1]


def relative_pairs(values: Float[Tensor, "*K C"], *, undefined: float = float("nan")) -> Float[Tensor, "*K C C"]:
    """Shares of every pair of checkpoints: ``out[..., a, b] = |v_b| / (|v_a| + |v_b|)``, the share of b against a.

    ``out[..., a, b] + out[..., b, a] = 1`` where it is defined; a checkpoint against itself is 1/2.

    Args:
        values: effects or norms, with the checkpoints on the last axis.
        undefined: value of 0/0.

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

    Of two checkpoints, a feature belongs to one alone if its share there is above `specific`, and is shared otherwise.
    Of more than two, it belongs to every checkpoint at which its share is at least `absent`.

    Args:
        shares: RelIE or RelDec of K features, see `relative`.
        revisions: names of the C checkpoints.
        absent, specific: the thresholds.

    Returns:
        For each feature ``"main only"``, ``"step64+main"``, ``"shared"`` (all checkpoints), ``"spread"`` (no checkpoint
        has a share of `absent`, which is possible for more than three) or ``"undefined"`` (0/0).

    Raises:
        CrosstimeError: the number of revisions is not that of the shares.

    Examples:
        >>> shares = torch.tensor([[0.9, 0.1], [0.5, 0.5], [float("nan")] * 2])
        >>> classify(shares, ["step64", "main"])
        ['step64 only', 'shared', 'undefined']
    """
    if shares.shape[-1] != len(revisions):
        raise CrosstimeError(f"{len(revisions)} revisions do not fit shares of {shares.shape[-1]} checkpoints.")
    return [_class_of(feature_shares, revisions, absent, specific) for feature_shares in shares.tolist()]


def _class_of(shares: Sequence[float], revisions: Sequence[str], absent: float, specific: float) -> str:
    """The class of one feature, by its share at each checkpoint."""
    if any(share != share for share in shares):
        return "undefined"

    # Checkpoints that the feature belongs to
    if len(shares) == 2:
        members = [c for c, share in enumerate(shares) if share > specific] or [0, 1]
    else:
        members = [c for c, share in enumerate(shares) if share >= absent]

    # Their names
    if not members:
        return "spread"
    if len(members) == len(shares):
        return "shared"
    names = "+".join(revisions[c] for c in members)
    return f"{names} only" if len(members) == 1 else names
