"""At which checkpoints a feature is present, by its effects or decoder norms."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstime.effects.relie import ABSENT, SPECIFIC
from crosstime.errors import CrosstimeError

PRESENT = ABSENT / SPECIFIC
"""Share of a feature's maximum from which it counts as present. With two checkpoints ``|v| >= 3/7 max`` says the same
as CTT's thresholds: a share of at least .3."""


def present(values: Float[Tensor, "*K C"], fraction: float = PRESENT, *, floor: float = 0.0) -> Bool[Tensor, "*K C"]:
    """Find the checkpoints at which a feature is present: ``|v_c| >= fraction * max_c' |v_c'|`` and ``|v_c| > floor``.

    Args:
        values: effects or decoder norms, with the checkpoints on the last axis.
        fraction: of the feature's own maximum, above 0 and at most 1.
        floor: absolute size up to which a value counts as noise, for features whose maximum is noise itself.

    Raises:
        CrosstimeError: the fraction is out of range, or the floor is negative.

    Examples:
        >>> present(torch.tensor([[0.1, 1.0, -0.5], [0.0, 0.0, 0.0]])).tolist()
        [[False, True, True], [False, False, False]]

    Source: CTT (arXiv 2509.05291), section 3.2; EoC (arXiv 2509.17196) for onsets.
    """
    if not 0 < fraction <= 1:
        raise CrosstimeError(
            f"A feature is present from a fraction of its maximum, above 0 and at most 1, not {fraction}."
        )
    if floor < 0:
        raise CrosstimeError(f"The floor under which nothing is present must not be negative; got {floor}.")
    size = values.abs()
    return (size >= fraction * size.amax(-1, keepdim=True)) & (size > floor)


def first_present(presence: Bool[Tensor, "*K C"]) -> Int[Tensor, "*K"]:
    """Index of the first checkpoint at which a feature is present; C where there is none."""
    return torch.where(presence.any(-1), presence.int().argmax(-1), presence.shape[-1])


def last_present(presence: Bool[Tensor, "*K C"]) -> Int[Tensor, "*K"]:
    """Index of the last checkpoint at which a feature is present; -1 where there is none."""
    return torch.where(presence.any(-1), presence.shape[-1] - 1 - presence.flip(-1).int().argmax(-1), -1)


def checkpoint_names(indices: Int[Tensor, " K"], revisions: Sequence[str]) -> pd.Series:
    """Names of checkpoints by their index; missing where the index is none of 0 to C - 1.

    They are categories, which take a byte for each row, since there are many features and few checkpoints.

    Examples:
        >>> list(checkpoint_names(torch.tensor([1, -1, 2]), ["step0", "main"]))
        ['main', nan, nan]
    """
    in_range = (indices >= 0) & (indices < len(revisions))
    codes = torch.where(in_range, indices, -1).numpy()
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(list(revisions))))
