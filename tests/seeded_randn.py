"""Normal random numbers that depend on nothing but a seed."""

from __future__ import annotations

import torch
from torch import Tensor


def randn(*shape: int, seed: int = 0) -> Tensor:
    """A tensor of a shape, the same whenever the seed is the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
