"""How decoder directions turn from checkpoint to checkpoint: cosines, angles, and where a feature turns most."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstime.crosscoders.stored_directions import StoredDirections

CHUNK = 1 << 22
"""Numbers of decoder directions that are read at a time (16 MB in float32)."""


@dataclass(frozen=True, eq=False)
class Rotation:
    """The rotation of the decoder directions of F features over C checkpoints, in N = C - 1 steps.

    Attributes:
        steps: angle in degrees between neighbouring checkpoints; NaN where the feature is absent at one of them.
        cosine: mean cosine between the directions at two checkpoints, over the features that are present at both; NaN
            where there are none.
        count: number of these features.
    """

    steps: Float[Tensor, "F N"]
    cosine: Float[Tensor, "C C"]
    count: Int[Tensor, "C C"]

    @property
    def total(self) -> Float[Tensor, " F"]:
        """Degrees that each feature turns in all; steps without an angle count as zero."""
        return self.steps.nan_to_num(0.0).sum(1)

    @property
    def shares(self) -> Float[Tensor, " N"]:
        """Share of each step in the rotation of all features; NaN where nothing turns."""
        by_step = self.steps.double().nan_to_num(0.0).sum(0)
        return by_step / by_step.sum()

    @property
    def turning(self) -> Int[Tensor, " F"]:
        """The step at which each feature turns most (of equal ones, the first), or -1 without an angle.

        Step s lies between checkpoints s and s + 1.
        """
        has_angle = ~self.steps.isnan()
        return torch.where(has_angle.any(1), self.steps.nan_to_num(-1.0).argmax(1), -1)


@torch.no_grad()
def decoder_cosines(directions: Float[Tensor, "K C D"]) -> Float[Tensor, "K C C"]:
    """Cosine between each feature's decoder directions at any two checkpoints; NaN where one has length zero.

    Examples:
        >>> decoder_cosines(torch.tensor([[[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]]))[0].tolist()
        [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    inner = directions @ directions.transpose(1, 2)
    norms = inner.diagonal(dim1=1, dim2=2).sqrt()
    norm_products = norms.unsqueeze(1) * norms.unsqueeze(2)
    return torch.where(norm_products > 0, (inner / norm_products).clamp(-1, 1), torch.nan)


@torch.no_grad()
def rotation(
    directions: Float[Tensor, "F C D"] | StoredDirections, presence: Bool[Tensor, "F C"] | None = None
) -> Rotation:
    """Measure how each feature's decoder direction turns over the checkpoints.

    The direction of a feature that is hardly present is noise, so angles are taken only between checkpoints at which it
    is present. Directions are read in chunks: no intermediate result has their size.

    Args:
        directions: W_dec; scales and folding do not change the angles.
        presence: the checkpoints at which each feature is present (`crosstime.evolution.presence.present`); by default
            those at which its norm is not zero.

    Examples:
        >>> turned = rotation(torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 5.0]]]))
        >>> turned.steps.round().tolist(), turned.turning.tolist()
        ([[0.0, 90.0]], [1])

    Source: EoC (arXiv 2509.17196), on the rotation of features' directions and its turning point.
    """
    n_features, n_checkpoints, width = directions.shape
    steps = torch.full((n_features, n_checkpoints - 1), torch.nan)
    total = torch.zeros(n_checkpoints, n_checkpoints, dtype=torch.float64)
    count = torch.zeros(n_checkpoints, n_checkpoints, dtype=torch.long)
    chunk = max(1, CHUNK // (n_checkpoints * width))
    for start in range(0, n_features, chunk):
        # Cosines of the features that are present at both checkpoints
        cosines = decoder_cosines(directions[start : start + chunk]).float()
        if presence is not None:
            chunk_presence = presence[start : start + chunk]
            both_present = chunk_presence.unsqueeze(1) & chunk_presence.unsqueeze(2)
            cosines = cosines.masked_fill(~both_present, torch.nan)

        # Angles of the steps, and sums for the mean cosine
        neighbours = cosines.diagonal(offset=1, dim1=1, dim2=2)
        steps[start : start + chunk] = torch.rad2deg(torch.arccos(neighbours))
        total += cosines.nan_to_num(0.0).sum(0, dtype=torch.float64)
        count += (~cosines.isnan()).sum(0)

    return Rotation(steps, torch.where(count > 0, total / count, torch.nan), count)
