"""How much of a dimension of activation space each feature has to itself, at every checkpoint."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crosstime.crosscoders.stored_directions import StoredDirections

BLOCK = 384
"""Rows of the Gram matrix that are computed at a time; its symmetry is used block by block."""
CHUNK = 1 << 22
"""Numbers of decoder directions that are read at a time (16 MB in float32)."""


@torch.no_grad()
def feature_dimensionality(
    directions: Float[Tensor, "F C D"] | StoredDirections, presence: Bool[Tensor, "F C"] | None = None
) -> Float[Tensor, "F C"]:
    """Compute the dimensionality of every feature at every checkpoint, without a matrix of size F x F.

    ::

        dim_i = ||W_i||² / sum_j ( W_i . W_j / ||W_j|| )²  =  1 / sum_j cos²(W_i, W_j)

    It is 1 for a feature at right angles to all others and 1/2 for each of two on one line; the sum over all features
    is at most D. With unit vectors u and the Gram matrix ``G = sum_j u_j u_j^T`` (D x D) the denominator is ``u_i^T G
    u_i``, so that two matrix products of size F D D for each checkpoint give it exactly.

    Args:
        directions: W_dec.
        presence: the checkpoints at which each feature counts. Elsewhere it has dimensionality 0 and takes none from
            other features. By default a feature counts where its norm is not zero; because only angles matter, the
            noise that is left of an absent feature then counts in full.

    Examples:
        >>> feature_dimensionality(torch.tensor([[[2.0, 0.0]], [[-1.0, 0.0]], [[0.0, 3.0]]])).squeeze(1).tolist()
        [0.5, 0.5, 1.0]

    Source: Elhage et al. 2022, Toy Models of Superposition; EoC (arXiv 2509.17196), over training.
    """
    n_features, n_checkpoints, width = directions.shape
    dimensionality = torch.zeros(n_features, n_checkpoints)
    chunk = max(1, CHUNK // width)
    for c in range(n_checkpoints):
        # The Gram matrix of all unit vectors, on and above its diagonal blocks
        gram = torch.zeros(width, width)
        for start in range(0, n_features, chunk):
            unit = _unit(directions, presence, slice(start, start + chunk), c)
            for block in range(0, width, BLOCK):
                gram[block : block + BLOCK, block:] += unit[:, block : block + BLOCK].T @ unit[:, block:]

        # Blocks above the diagonal count twice, since the matrix is symmetric
        for block in range(0, width, BLOCK):
            gram[block : block + BLOCK, block + BLOCK :] *= 2

        # The quadratic form of every unit vector
        for start in range(0, n_features, chunk):
            unit = _unit(directions, presence, slice(start, start + chunk), c)
            overlap = torch.zeros(len(unit))
            for block in range(0, width, BLOCK):
                block_columns, later_columns = unit[:, block : block + BLOCK], unit[:, block:]
                overlap += torch.einsum(
                    "fd,fd->f", block_columns, later_columns @ gram[block : block + BLOCK, block:].T
                )
            dimensionality[start : start + chunk, c] = torch.where(overlap > 0, 1 / overlap, 0.0)

    return dimensionality


def _unit(
    directions: Tensor | StoredDirections, presence: Tensor | None, rows: slice, checkpoint_index: int
) -> Float[Tensor, "M D"]:
    """Directions of length one, and of length zero for features that do not count."""
    vectors = directions[rows, checkpoint_index].float()
    norms = vectors.norm(dim=1, keepdim=True)
    inverse = torch.where(norms > 0, 1 / norms, 0.0)
    if presence is not None:
        inverse = inverse * presence[rows, checkpoint_index].unsqueeze(1)
    return vectors * inverse
