"""Norms of activations, token by token, and the few tokens that have most of the squared norm.

Some tokens have activations that are tens or hundreds of times longer than all others: attention sinks such as the
first token of a sequence, end-of-text tokens between documents, some delimiters. A mean norm, a squared error and a
fraction of variance explained are then statements about these tokens only. A token is an *outlier* here where its norm
is beyond `OUTLIER` times the median norm.

Source: Sun et al. 2024, Massive Activations in Large Language Models (arXiv 2402.17762).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

OUTLIER = 10.0
"""Multiple of the median norm beyond which a token is an outlier."""
TOP = 0.001
"""Share of the tokens that are called the largest."""
_WARNED = 0.1
"""Share of the squared norm, held by the largest tokens, from which on a warning is given."""


def token_norms(x: Float[Tensor, "T ... D"]) -> Float[Tensor, "T ..."]:
    """``||x||`` of every token, in float32 whatever the dtype of the activations."""
    return torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32)


def is_outlier(
    norms: Float[Tensor, "T ..."], multiple: float = OUTLIER, median: Float[Tensor, " ..."] | None = None
) -> Bool[Tensor, "T ..."]:
    """Which tokens have a norm above a multiple of the median.

    Args:
        norms: norms of T tokens, at one checkpoint or at several.
        multiple: of the median.
        median: of each checkpoint; None takes that of `norms`, the lower one of two.

    Examples:
        >>> is_outlier(torch.tensor([1.0, 1.0, 2.0, 50.0])).tolist()
        [False, False, False, True]
    """
    return norms > multiple * (norms.median(0).values if median is None else median)


@dataclass(frozen=True)
class NormConcentration:
    """How much of the squared norm of a checkpoint's activations a few tokens have.

    Attributes:
        outliers: number of tokens whose norm is beyond 10 times the median.
        top_share: share of ``sum ||x||²`` that the largest .1 % of the tokens have, of one token at least.
        n_tokens: T.
    """

    outliers: int
    top_share: float
    n_tokens: int

    @classmethod
    def of(cls, norms: Float[Tensor, " T"]) -> NormConcentration:
        """Measure it.

        Examples:
            >>> NormConcentration.of(torch.tensor([1.0, 1.0, 1.0, 1.0, 30.0])).outliers
            1
        """
        squared = norms.double() ** 2
        largest = squared.topk(math.ceil(TOP * len(norms))).values
        total = float(squared.sum())
        share = float(largest.sum()) / total if total else math.nan
        return cls(int(is_outlier(norms).sum()), share, len(norms))

    @property
    def matters(self) -> bool:
        """Whether means and sums over tokens say little about the others."""
        return self.outliers > 0 and self.top_share >= _WARNED


def warn_of_outliers(norms: Float[Tensor, "T C"], revisions: Sequence[str]) -> None:
    """Warn where a few tokens have much of the squared norm, in one sentence about the worst checkpoint.

    Args:
        norms: norms of T tokens at C checkpoints.
        revisions: the checkpoints.
    """
    concentrations = [NormConcentration.of(column) for column in norms.unbind(1)]
    worst = max(range(len(revisions)), key=lambda index: concentrations[index].top_share)
    concentration = concentrations[worst]
    if concentration.matters:
        n_others = sum(other.matters for other in concentrations) - 1
        others = f" (and {n_others} other checkpoint{'s' if n_others > 1 else ''})" if n_others else ""
        warnings.warn(
            f"a few tokens are of huge norm: at {revisions[worst]!r}{others}, the largest .1 % of the tokens have "
            f"{concentration.top_share:.0%} of the squared norm, and {concentration.outliers:,} of "
            f"{concentration.n_tokens:,} are beyond {OUTLIER:g} times the median norm; scales, losses and variance "
            f"explained are about them, unless max_activation_norm_multiple (such as {OUTLIER:g}) leaves them out",
            RuntimeWarning,
            stacklevel=2,
        )
