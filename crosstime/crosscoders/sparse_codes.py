"""Few active features out of many: choose them, and encode, decode and differentiate at those alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from crosstime.machine.processes import ALONE, Processes

SPARSE_BELOW = {"cpu": 1 / 16, "cuda": 1 / 32}
"""Share of active features up to which sums over the active ones are taken in the place of dense products, by device.

Measured as by ``python -m benchmarks crossover``, in time of the processor, on one core of an AMD EPYC with AVX-512
(float32, D 512, C 3, F 8,192, 1,024 tokens): a step of BatchTopK is 2.1 times as fast at 1/64 of the features, 1.5 at
1/32, 1.1 at 1/16, and as fast at about 1/14. On a GPU it has not been measured; the value there is a cautious one.
"""

_SAMPLED = 61
_OVERSHOOT = 2.0


@dataclass(frozen=True, eq=False)
class Active:
    """The active features of a batch, N entries in ascending order of token; a code may be zero among them.

    Unlike `interventions.Codes` its size is known before its content, so a GPU never waits for the host, and
    `code` can be differentiated.

    Attributes:
        token, feature: where, N each.
        code: f there.
        n_tokens, n_features: B and F.
    """

    token: Int[Tensor, " N"]
    feature: Int[Tensor, " N"]
    code: Float[Tensor, " N"]
    n_tokens: int
    n_features: int

    def decode(self, directions: Float[Tensor, "F D"]) -> Float[Tensor, "B D"]:
        """``dense @ directions``, forward and backward over the entries alone."""
        return _bags(directions, self.feature, self.code, self.token, self.n_tokens)

    def dense(self) -> Float[Tensor, "B F"]:
        """The whole matrix."""
        dense = self.code.new_zeros(self.n_tokens * self.n_features)
        places = self.token * self.n_features + self.feature
        return dense.scatter(0, places, self.code).reshape(self.n_tokens, self.n_features)

    def fired(self) -> Bool[Tensor, " F"]:
        """Which features have a code above zero on some token."""
        hits = self.code.new_zeros(self.n_features)
        return hits.index_add(0, self.feature, (self.code.detach() > 0).to(hits.dtype)) > 0


def encode_at(
    x: Float[Tensor, "B D"],
    encoder: Float[Tensor, "D F"],
    pre: Float[Tensor, "B F"],
    bias: Float[Tensor, " F"],
    chosen: Int[Tensor, " N"],
) -> Active:
    """Codes at chosen places of ``relu(x @ encoder + bias)``, with gradients of encoder and bias from those alone.

    Args:
        x: activations; no gradient is given for them.
        encoder, bias: weights.
        pre: ``x @ encoder + bias``, computed already. If it can be differentiated, that is the way the gradients go,
            by dense products, which are faster when many places are chosen.
        chosen: places in the flat B F matrix, ascending.
    """
    n_tokens, n_features = pre.shape
    token, feature = chosen // n_features, chosen % n_features
    if pre.requires_grad:
        return Active(token, feature, pre.reshape(-1).gather(0, chosen).relu(), n_tokens, n_features)
    # Where products are done in half precision, gradients of a bias must still be summed in whole.
    value = pre.reshape(-1)[chosen].relu().to(bias.dtype)
    code = _Encode.apply(encoder, bias, x, value, token, feature)
    return Active(token, feature, code, n_tokens, n_features)


def top_of_each(weighted: Float[Tensor, "B F"], k: int) -> Int[Tensor, " N"]:
    """Places, in the flat matrix and ascending, of each row's k largest."""
    columns = weighted.topk(k, dim=-1, sorted=False).indices.sort(dim=-1).values
    rows = torch.arange(len(weighted), device=weighted.device).unsqueeze(1) * weighted.shape[1]
    return (columns + rows).flatten()


def top_of_all(weighted: Float[Tensor, "B F"], count: int, processes: Processes = ALONE) -> Int[Tensor, " N"]:
    """Places, in the flat matrix and ascending, of the `count` largest of all rows together.

    On the CPU, where selecting from millions is slow, a sample gives a lower bound first; the result is the
    same. With several `processes`, those of the ``count * size`` largest of all their rows which lie in this one's.
    """
    flat = weighted.reshape(-1)
    if processes.size > 1:
        best = flat.topk(min(len(flat), count * processes.size), sorted=False).values
        bound = processes.all_gather(best).topk(count * processes.size, sorted=False).values.min()
        return ((flat >= bound) & (flat > 0)).nonzero().squeeze(1)
    if flat.device.type == "cpu" and count * 4 < len(flat) and len(flat) > 1 << 16:
        sample = flat[::_SAMPLED]
        rank = min(len(sample), int(_OVERSHOOT * count / _SAMPLED) + 8)
        bound = sample.topk(rank, sorted=False).values.min()
        candidates = (flat >= bound).nonzero().squeeze(1)
        if len(candidates) >= count:
            return candidates[flat[candidates].topk(count, sorted=False).indices].sort().values
    return flat.topk(count, sorted=False).indices.sort().values


def _bags(
    rows: Float[Tensor, "M D"],
    row: Int[Tensor, " N"],
    weight: Float[Tensor, " N"],
    bag: Int[Tensor, " N"],
    n_bags: int,
) -> Float[Tensor, "G D"]:
    """``out[g] = sum over entries of bag g of weight * rows[row]``; bags in ascending order."""
    offsets = torch.searchsorted(bag, torch.arange(n_bags, device=bag.device))
    return functional.embedding_bag(row, rows, offsets, mode="sum", per_sample_weights=weight.to(rows.dtype))


class _Encode(torch.autograd.Function):
    """Gradients of encoder and bias for codes at chosen places."""

    @staticmethod
    def forward(
        ctx: Any, encoder: Tensor, bias: Tensor, x: Tensor, value: Tensor, token: Tensor, feature: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, value, token, feature)
        ctx.n_features = encoder.shape[1]
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, value, token, feature = ctx.saved_tensors
        gradient = gradient * (value > 0)
        order = feature.argsort()
        encoder = _bags(x, token[order], gradient[order], feature[order], ctx.n_features).T
        bias = gradient.new_zeros(ctx.n_features).index_add(0, feature, gradient)
        return encoder, bias, None, None, None, None
