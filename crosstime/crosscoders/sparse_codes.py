"""Few active features out of many: select them, and encode, decode and differentiate at those alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from crosstime.machine.processes import ALONE, Processes

SPARSE_BELOW = {"cpu": 1 / 16, "cuda": 1 / 32}
"""Share of active features, by device, up to which sums over the active features replace dense products.

Measured with ``python -m benchmarks crossover``, as CPU time on one core of an AMD EPYC with AVX-512 (float32, D 512,
C 3, F 8,192, 1,024 tokens): with sparse sums, a step of BatchTopK is 2.1 times as fast at 1/64 of the features, 1.5
times at 1/32, 1.1 times at 1/16, and equally fast at about 1/14. The value for GPUs is a cautious guess, which has
not been measured.
"""

_SAMPLE_STRIDE = 61
_OVERSHOOT = 2.0


@dataclass(frozen=True, eq=False)
class ActiveCodes:
    """Codes of the selected features of a batch: N entries in ascending order of token, zero codes among them.

    Unlike that of `interventions.Codes`, its size is known before its content is, so that a GPU never syncs with the
    host; and `code` can be differentiated.

    Attributes:
        token, feature: token and feature of each entry.
        code: f of each entry.
        n_tokens, n_features: B and F.
    """

    token: Int[Tensor, " N"]
    feature: Int[Tensor, " N"]
    code: Float[Tensor, " N"]
    n_tokens: int
    n_features: int

    def decode(self, directions: Float[Tensor, "F D"]) -> Float[Tensor, "B D"]:
        """``dense() @ directions``, with forward and backward pass over the entries alone."""
        return _weighted_bag_sums(directions, self.feature, self.code, self.token, self.n_tokens)

    def dense(self) -> Float[Tensor, "B F"]:
        """The codes as a dense matrix."""
        dense = self.code.new_zeros(self.n_tokens * self.n_features)
        indices = self.token * self.n_features + self.feature
        return dense.scatter(0, indices, self.code).reshape(self.n_tokens, self.n_features)

    def fired(self) -> Bool[Tensor, " F"]:
        """Whether each feature has a code above zero on any token."""
        n_fired = self.code.new_zeros(self.n_features)
        return n_fired.index_add(0, self.feature, (self.code.detach() > 0).to(n_fired.dtype)) > 0


def encode_at(
    x: Float[Tensor, "B D"],
    encoder: Float[Tensor, "D F"],
    pre_activations: Float[Tensor, "B F"],
    bias: Float[Tensor, " F"],
    indices: Int[Tensor, " N"],
) -> ActiveCodes:
    """Selected entries of ``relu(x @ encoder + bias)``, whose gradients of encoder and bias come from these alone.

    Args:
        x: activations; they get no gradient.
        encoder, bias: weights.
        pre_activations: ``x @ encoder + bias``. If they require a gradient, it flows through them by dense products,
            which is faster when many entries are selected.
        indices: of the entries in the flattened B F matrix, ascending.
    """
    n_tokens, n_features = pre_activations.shape
    token, feature = indices // n_features, indices % n_features
    if pre_activations.requires_grad:
        code = pre_activations.reshape(-1).gather(0, indices).relu()
    else:
        # Where products are done in half precision, the gradient of the bias must still be summed in full precision
        value = pre_activations.reshape(-1)[indices].relu().to(bias.dtype)
        code = _Encode.apply(encoder, bias, x, value, token, feature)
    return ActiveCodes(token, feature, code, n_tokens, n_features)


def kth_largest(weighted: Float[Tensor, "B F"], k: int, shards: Processes) -> Float[Tensor, " B"]:
    """The k-th largest entry of each row, where the columns are sharded over several processes."""
    best = weighted.topk(min(k, weighted.shape[1]), dim=-1, sorted=False).values
    candidates = shards.all_gather(best.T.contiguous()).T
    return candidates.topk(k, dim=-1, sorted=False).values.amin(-1)


def top_k_per_row(weighted: Float[Tensor, "B F"], k: int, shards: Processes = ALONE) -> Int[Tensor, " N"]:
    """Indices, in the flattened matrix and ascending, of the k largest entries of each row.

    With several `shards`, each of which has some of the columns, these are the entries of this shard among the k
    largest of a row over all shards.
    """
    if shards.size > 1:
        bound = kth_largest(weighted, k, shards).unsqueeze(1)
        return ((weighted >= bound) & (weighted > 0)).reshape(-1).nonzero().squeeze(1)
    columns = weighted.topk(k, dim=-1, sorted=False).indices.sort(dim=-1).values
    row_starts = torch.arange(len(weighted), device=weighted.device).unsqueeze(1) * weighted.shape[1]
    return (columns + row_starts).flatten()


def top_k_of_batch(
    weighted: Float[Tensor, "B F"], count: int, processes: Processes = ALONE, shards: Processes = ALONE
) -> Int[Tensor, " N"]:
    """Indices, in the flattened matrix and ascending, of the `count` largest entries of all rows together.

    On the CPU, where selecting from millions of entries is slow, a sample first gives a lower bound; the result is the
    same. With several `processes`, which have other rows, or `shards`, which have other columns, these are the entries
    of this process among the `count` largest of the whole matrix.
    """
    flat = weighted.reshape(-1)
    if processes.size == shards.size == 1:
        return _largest(flat, count).sort().values

    # Several processes: each sends its best candidates, which gives the smallest entry that is selected
    best = flat[_largest(flat, min(len(flat), count))]
    bound = processes.all_gather(shards.all_gather(best)).topk(count, sorted=False).values.min()
    return ((flat >= bound) & (flat > 0)).nonzero().squeeze(1)


def _largest(flat: Float[Tensor, " M"], count: int) -> Int[Tensor, " N"]:
    """Indices of the `count` largest entries, in no order."""
    # CPU: select from the entries above a bound, chosen from a sample so that about twice `count` entries exceed it
    if flat.device.type == "cpu" and count * 4 < len(flat) and len(flat) > 1 << 16:
        sample = flat[::_SAMPLE_STRIDE]
        rank = min(len(sample), int(_OVERSHOOT * count / _SAMPLE_STRIDE) + 8)
        bound = sample.topk(rank, sorted=False).values.min()
        candidates = (flat >= bound).nonzero().squeeze(1)
        if len(candidates) >= count:
            return candidates[flat[candidates].topk(count, sorted=False).indices]

    return flat.topk(count, sorted=False).indices


def _weighted_bag_sums(
    rows: Float[Tensor, "M D"],
    row: Int[Tensor, " N"],
    weight: Float[Tensor, " N"],
    bag: Int[Tensor, " N"],
    n_bags: int,
) -> Float[Tensor, "G D"]:
    """``sums[g] = sum over entries of bag g of weight * rows[row]``, for entries in ascending order of bag."""
    offsets = torch.searchsorted(bag, torch.arange(n_bags, device=bag.device))
    return functional.embedding_bag(row, rows, offsets, mode="sum", per_sample_weights=weight.to(rows.dtype))


class _Encode(torch.autograd.Function):
    """Codes of selected entries, with gradients of encoder and bias from these entries alone."""

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
        encoder = _weighted_bag_sums(x, token[order], gradient[order], feature[order], ctx.n_features).T
        bias = gradient.new_zeros(ctx.n_features).index_add(0, feature, gradient)
        return encoder, bias, None, None, None, None
