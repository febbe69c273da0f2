"""How much of a dimension of activation space each feature has to itself, at every checkpoint."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_BLOCK = 384
_AT_ONCE = 1 << 22


@torch.no_grad()
def feature_dimensionality(
    directions: Float[Tensor, "F C D"], where: Bool[Tensor, "F C"] | None = None
) -> Float[Tensor, "F C"]:
    """Feature dimensionality at every checkpoint, without anything of size F x F.

    ::

        dim_i = ||W_i||² / sum_j ( W_i . W_j / ||W_j|| )²  =  1 / sum_j cos²(W_i, W_j)

    1 for a feature at right angles to all others, 1/2 for one of a pair on one line; over all features the sum is at
    most D. With unit vectors u and ``G = sum_j u_j u_j^T`` (D x D) the denominator is ``u_i^T G u_i``, so that two
    products of size F D D a checkpoint give it exactly.

    Args:
        directions: W_dec.
        where: where each feature counts; elsewhere it has dimension 0 and takes none from others. None: where its
            norm is not zero. Without it, noise in place of absent features counts in full, since only angles matter.

    Examples:
        >>> feature_dimensionality(torch.tensor([[[2.0, 0.0]], [[-1.0, 0.0]], [[0.0, 3.0]]])).squeeze(1).tolist()
        [0.5, 0.5, 1.0]

    Source: Elhage et al. 2022, Toy Models of Superposition; EoC (arXiv 2509.17196), over training.
    """
    n_features, n_checkpoints, width = directions.shape
    out = torch.zeros(n_features, n_checkpoints)
    piece = max(1, _AT_ONCE // width)
    for c in range(n_checkpoints):
        gram = torch.zeros(width, width)
        for start in range(0, n_features, piece):
            unit = _unit(directions, where, slice(start, start + piece), c)
            for block in range(0, width, _BLOCK):
                gram[block : block + _BLOCK, block:] += unit[:, block : block + _BLOCK].T @ unit[:, block:]
        # Both products are symmetric: the part above the diagonal, counted twice, is all that is computed.
        for block in range(0, width, _BLOCK):
            gram[block : block + _BLOCK, block + _BLOCK :] *= 2
        for start in range(0, n_features, piece):
            unit = _unit(directions, where, slice(start, start + piece), c)
            overlap = torch.zeros(len(unit))
            for block in range(0, width, _BLOCK):
                rows = unit[:, block : block + _BLOCK]
                overlap += torch.einsum("fd,fd->f", rows, unit[:, block:] @ gram[block : block + _BLOCK, block:].T)
            out[start : start + piece, c] = torch.where(overlap > 0, 1 / overlap, 0.0)
    return out


def _unit(directions: Tensor, where: Tensor | None, rows: slice, checkpoint: int) -> Float[Tensor, "M D"]:
    """Directions of length one, zero for features that do not count."""
    chosen = directions[rows, checkpoint].float()
    norms = chosen.norm(dim=1, keepdim=True)
    inverse = torch.where(norms > 0, 1 / norms, 0.0)
    if where is not None:
        inverse = inverse * where[rows, checkpoint].unsqueeze(1)
    return chosen * inverse
