"""Statistics of each feature's activations over tokens, from sparse codes."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions import Codes


def density(codes: Codes) -> Float[Tensor, " F"]:
    """Share of tokens on which each feature fires.

    Examples:
        >>> density(Codes.from_dense(torch.tensor([[0.0, 2.0], [1.0, 3.0]]))).tolist()
        [0.5, 1.0]
    """
    fires = torch.bincount(codes.feature[codes.value != 0], minlength=codes.n_features)
    return fires.double() / max(1, codes.n_tokens)


def mean_activation(codes: Codes) -> Float[Tensor, " F"]:
    """Mean of each feature's activation over all tokens, in double precision.

    Examples:
        >>> mean_activation(Codes.from_dense(torch.tensor([[0.0, 2.0], [1.0, 3.0]]))).tolist()
        [0.5, 2.5]
    """
    sums = torch.zeros(codes.n_features, dtype=torch.float64).index_add(0, codes.feature, codes.value.double())
    return sums / max(1, codes.n_tokens)


def explained_by(codes: Codes, group: Int[Tensor, " T"]) -> Float[Tensor, " F"]:
    """Share of each feature's variance over tokens that a grouping of the tokens explains, corrected for small groups.

    With N tokens in G groups::

        1 - ( SS_within / (N - G) ) / ( SS_total / (N - 1) )

    is 0 on average for a feature that is independent of the groups, and 1 for one that is constant in each. Chance can
    make it negative.

    Args:
        codes: of T tokens.
        group: number of the group of each token.

    Returns:
        The share for each feature; NaN for a feature that is constant over all tokens, and for all features if every
        token is a group of its own.

    Examples:
        >>> codes = Codes.from_dense(torch.tensor([[1.0], [1.0], [0.0], [0.0]]))
        >>> explained_by(codes, torch.tensor([7, 7, 3, 3])).item()
        1.0

    Source: the adjusted coefficient of determination of a one-way analysis of variance (Kelley's epsilon squared).
    """
    _, group_of_token, sizes = torch.unique(group, return_inverse=True, return_counts=True)
    n_tokens, n_groups = codes.n_tokens, len(sizes)
    value = codes.value.double()
    zeros = torch.zeros(codes.n_features, dtype=torch.float64)

    # Sums of squares around the mean, in total and between groups: sum of squares minus N mean²
    mean_square = zeros.index_add(0, codes.feature, value) ** 2 / max(1, n_tokens)
    total = zeros.index_add(0, codes.feature, value**2) - mean_square
    cell, cell_of_entry = torch.unique(codes.feature * n_groups + group_of_token[codes.token], return_inverse=True)
    cell_sums = torch.zeros(len(cell), dtype=torch.float64).index_add(0, cell_of_entry, value)
    between = zeros.index_add(0, cell // n_groups, cell_sums**2 / sizes[cell % n_groups]) - mean_square

    # The adjusted share; rounding leaves a tiny total for features that are constant
    if n_tokens <= n_groups:
        return torch.full_like(total, torch.nan)
    unexplained = ((total - between) / (n_tokens - n_groups)) / (total / (n_tokens - 1))
    return torch.where(total > 1e-12 * mean_square.clamp(min=1e-30), 1 - unexplained, torch.nan)
