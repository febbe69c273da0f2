"""How long decoder directions are, with a gradient that costs one pass over them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def total_norms(directions: Float[Tensor, "F C D"]) -> Float[Tensor, " F"]:
    """``n_i = sum_c ||W_dec[i, c]||``; the gradient of a direction of length zero is zero.

    What autograd makes of the formula copies all directions three times on the way back, which on a CPU is a
    noticeable part of a training step.

    Examples:
        >>> total_norms(torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])).tolist()
        [7.0]
    """
    return _TotalNorms.apply(directions)


class _TotalNorms(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, directions: Tensor) -> Tensor:
        norms = directions.norm(dim=-1, keepdim=True)
        ctx.save_for_backward(directions, norms)
        return norms.sum((1, 2))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        directions, norms = ctx.saved_tensors
        share = torch.where(norms > 0, gradient.reshape(-1, 1, 1) / norms, 0.0)
        return directions * share
