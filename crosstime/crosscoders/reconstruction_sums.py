"""How well a checkpoint is reconstructed, from sums over chunks of its tokens or rows."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstime.suites.token_norms import NormConcentration, is_outlier

RECONSTRUCTION = ("l0", "dead", "alive", "fve", "fve_without_outliers", "outliers", "top_norm_share", "error")
"""Measures of reconstruction, in the order of the columns of a table; `crosstime.evaluate` says what they are."""

_CHUNK = 1 << 14
"""Tokens that are in memory in float64 at a time."""


class ReconstructionSums:
    """Sums over the tokens of one checkpoint, from which its measures of reconstruction follow.

    The tokens are added in order, in any number of chunks. Sums are in float64, so that the chunks matter in the last
    digits at most.

    Args:
        norms: norms of all T tokens, by `token_norms`; they tell which tokens are outliers.
        n_features: number of features of the crosscoder.

    Examples:
        >>> x = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
        >>> sums = ReconstructionSums(torch.tensor([3.0, 4.0]), n_features=2)
        >>> for row, feature in zip(x.split(1), ([0], [0, 1])):
        ...     sums.add(row, row / 2, torch.tensor(feature))
        >>> measures = sums.measures(scale=1.0)
        >>> measures["l0"], measures["dead"], measures["fve"], measures["error"]
        (1.5, 0, 0.5, 3.125)
    """

    def __init__(self, norms: Float[Tensor, " T"], n_features: int) -> None:
        self._norms = norms.cpu()
        self._is_usual = ~is_outlier(self._norms)
        self._errors, self._squares = torch.zeros(2, len(norms), dtype=torch.float64)
        self._totals: Float[Tensor, "2 D"] | None = None
        self._fires = torch.zeros(n_features, dtype=torch.bool)
        self._n_firings = self._n_tokens = 0

    def add(self, x: Float[Tensor, "t D"], reconstruction: Float[Tensor, "t D"], features: Int[Tensor, " N"]) -> None:
        """Add the next t tokens.

        Args:
            x: their activations.
            reconstruction: x̂, the reconstructions of them.
            features: the feature of each of the N non-zero entries of their codes.
        """
        # Which features fire, and how often
        self._fires[features.cpu()] = True
        self._n_firings += len(features)

        # Errors, token by token, and the sums of activations; chunks bound the memory in float64
        for rows, approximations in zip(x.split(_CHUNK), reconstruction.split(_CHUNK), strict=True):
            start, stop = self._n_tokens, self._n_tokens + len(rows)
            self._errors[start:stop] = (rows - approximations).double().square().sum(-1)
            rows = rows.double()
            self._squares[start:stop] = rows.square().sum(-1)
            is_usual = self._is_usual[start:stop].to(x.device).unsqueeze(-1)
            totals = torch.stack([rows.sum(0), (rows * is_usual).sum(0)]).cpu()
            self._totals = totals if self._totals is None else self._totals + totals
            self._n_tokens = stop

    def measures(self, scale: float | int) -> dict[str, float | int]:
        """The `RECONSTRUCTION` of the tokens.

        Args:
            scale: s_c, the factor of the activations of this checkpoint in training.

        Raises:
            ValueError: fewer tokens were added than there are norms.
        """
        if self._totals is None or self._n_tokens != len(self._norms):
            raise ValueError(f"{self._n_tokens} of {len(self._norms)} tokens were added.")
        n_alive, n_features = int(self._fires.sum()), len(self._fires)
        concentration = NormConcentration.of(self._norms)
        everything = torch.ones_like(self._is_usual)
        return {
            "l0": self._n_firings / self._n_tokens,
            "dead": n_features - n_alive,
            "alive": n_alive / n_features,
            "fve": self._explained(everything, self._totals[0]),
            "fve_without_outliers": self._explained(self._is_usual, self._totals[1]),
            "outliers": concentration.outliers,
            "top_norm_share": concentration.top_share,
            "error": scale**2 * self._errors.mean().item(),
        }

    def _explained(self, tokens: Bool[Tensor, " T"], total: Float[Tensor, " D"]) -> float:
        """``1 - sum ||x - x̂||² / sum ||x - mean x||²``, where the latter is ``sum ||x||² - ||sum x||² / T``."""
        variance = (self._squares[tokens].sum() - total.square().sum() / tokens.sum()).item()
        return 1 - self._errors[tokens].sum().item() / variance if variance > 0 else math.nan
