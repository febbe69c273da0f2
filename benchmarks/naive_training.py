"""A naive trainer of crosscoders: the formulas in einsum, autograd through all features, and torch's Adam."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime import CrossCoder


class DenseTrainer:
    """L1 or BatchTopK training with dense codes.

    Args:
        crosscoder: the initial weights, which are copied.
        lr: learning rate of Adam.
        clip: largest norm of the gradient.
        l1: weight of the penalty; None for no penalty.
        k: mean number of active features per token; None for all that are positive.
    """

    def __init__(
        self, crosscoder: CrossCoder, *, lr: float, clip: float = 1.0, l1: float | None = None, k: int | None = None
    ) -> None:
        names = ("W_enc", "b_enc", "W_dec", "b_dec")
        self.weights = {name: getattr(crosscoder, name).detach().clone().requires_grad_() for name in names}
        self.scales, self.clip, self.l1, self.k = crosscoder.scales.unsqueeze(-1), clip, l1, k
        self.optimizer = torch.optim.Adam(self.weights.values(), lr=lr)

    def loss(self, x: Float[Tensor, "B C D"]) -> Float[Tensor, ""]:
        """Return the loss of a batch."""
        weights, x = self.weights, x * self.scales
        codes = torch.relu(torch.einsum("bcd,cdf->bf", x, weights["W_enc"]) + weights["b_enc"])
        norms = weights["W_dec"].norm(dim=-1).sum(1)
        if self.k is not None:
            weighted = (codes * norms.detach()).flatten()
            mask = torch.zeros_like(weighted).scatter_(0, weighted.topk(self.k * len(x)).indices, 1.0)
            codes = codes * mask.reshape(codes.shape)
        reconstruction = torch.einsum("bf,fcd->bcd", codes, weights["W_dec"]) + weights["b_dec"]
        loss = (x - reconstruction).pow(2).sum((1, 2)).mean()
        return loss if self.l1 is None else loss + self.l1 * (codes * norms).sum(1).mean()

    def update(self, step: int, x: Float[Tensor, "B C D"]) -> Float[Tensor, ""]:
        """Take one step on a batch and return its loss."""
        self.optimizer.zero_grad()
        loss = self.loss(x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), self.clip)
        self.optimizer.step()
        return loss.detach()
