"""How decoder directions turn from checkpoint to checkpoint: cosines, angles, and where a feature turns most."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_AT_ONCE = 1 << 22
"""Numbers of decoder directions that are read at a time (16 MB in float32)."""


@dataclass(frozen=True, eq=False)
class Rotation:
    """How the decoder directions of F features turn.

    Attributes:
        steps: angle in degrees between neighbouring checkpoints, NaN where the feature is absent at one of them.
        cosine: mean over features of the cosine between the directions at two checkpoints, of those that are
            present at both; NaN where none is.
        count: how many those are.
    """

    steps: Float[Tensor, "F N"]
    cosine: Float[Tensor, "C C"]
    count: Int[Tensor, "C C"]

    @property
    def total(self) -> Float[Tensor, " F"]:
        """Degrees that each feature turns in all; steps without an angle count nothing."""
        return self.steps.nan_to_num(0.0).sum(1)

    @property
    def shares(self) -> Float[Tensor, " N"]:
        """Share of all rotation, of all features together, at each step; NaN where nothing turns."""
        by_step = self.steps.double().nan_to_num(0.0).sum(0)
        return by_step / by_step.sum()

    @property
    def turning(self) -> Int[Tensor, " F"]:
        """The step at which each feature turns most, -1 without an angle; of equal ones, the first.

        Step s lies between checkpoints s and s + 1.
        """
        known = ~self.steps.isnan()
        return torch.where(known.any(1), self.steps.nan_to_num(-1.0).argmax(1), -1)


@torch.no_grad()
def decoder_cosines(directions: Float[Tensor, "K C D"]) -> Float[Tensor, "K C C"]:
    """Cosine between each feature's decoder directions at any two checkpoints; NaN where one has length zero.

    Examples:
        >>> decoder_cosines(torch.tensor([[[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]]))[0].tolist()
        [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    inner = directions @ directions.transpose(1, 2)
    norms = inner.diagonal(dim1=1, dim2=2).sqrt()
    between = norms.unsqueeze(1) * norms.unsqueeze(2)
    return torch.where(between > 0, (inner / between).clamp(-1, 1), torch.nan)


@torch.no_grad()
def rotation(directions: Float[Tensor, "F C D"], where: Bool[Tensor, "F C"] | None = None) -> Rotation:
    """How each feature's decoder direction turns over the checkpoints.

    The direction of a feature that is hardly there is noise, so angles are taken only between checkpoints at which it
    is present. Directions are read piece by piece: beyond the result nothing of their size is made.

    Args:
        directions: W_dec; scales and folding do not change the angles.
        where: where each feature counts as present (`life_cycles.present`); None: where its norm is not zero.

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
    piece = max(1, _AT_ONCE // (n_checkpoints * width))
    for start in range(0, n_features, piece):
        cosines = decoder_cosines(directions[start : start + piece]).float()
        if where is not None:
            kept = where[start : start + piece]
            cosines = cosines.masked_fill(~(kept.unsqueeze(1) & kept.unsqueeze(2)), torch.nan)
        neighbours = cosines.diagonal(offset=1, dim1=1, dim2=2)
        steps[start : start + piece] = torch.rad2deg(torch.arccos(neighbours))
        total += cosines.nan_to_num(0.0).sum(0, dtype=torch.float64)
        count += (~cosines.isnan()).sum(0)
    return Rotation(steps, torch.where(count > 0, total / count, torch.nan), count)
