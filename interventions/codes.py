"""Sparse feature codes of flat tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interventions.errors import FeatureError, ShapeError

CHUNK, FEWEST_TOKENS = 1 << 20, 64
"""Upper bound on the numbers of one dense chunk (4 MB in float32), and lower bound on its tokens, which prevails."""


def check_feature(feature: int, n_features: int) -> None:
    """Refuse a feature that a dictionary of `n_features` does not have.

    Raises:
        FeatureError: it is not one of 0 to F - 1.
    """
    if not 0 <= feature < n_features:
        raise FeatureError(f"Feature {feature} does not exist: this dictionary has features 0 to {n_features - 1}.")


def entries_of(counts: Int[Tensor, " R"], chosen: Int[Tensor, " M"]) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Index of every entry of the chosen rows in a list of entries that is sorted by row.

    Args:
        counts: number of entries of each row.
        chosen: rows, in any order; a row may occur several times.

    Returns:
        The index of each entry in the list, and the index in `chosen` of the row that it belongs to.

    Examples:
        >>> [index.tolist() for index in entries_of(torch.tensor([2, 0, 1]), torch.tensor([2, 0, 2]))]
        [[2, 0, 1, 2], [0, 1, 1, 2]]
    """
    times = counts[chosen]
    owner = torch.arange(len(chosen)).repeat_interleave(times)
    within = torch.arange(len(owner)) - (times.cumsum(0) - times)[owner]
    return (counts.cumsum(0) - counts)[chosen][owner] + within, owner


@dataclass(frozen=True, eq=False)
class Codes:
    """Which features fire on which token, and how strongly: the non-zeros of a T x F matrix.

    Attributes:
        token, feature, value: one entry for each non-zero, in ascending order of token.
        n_tokens, n_features: T and F.

    Examples:
        >>> codes = Codes.from_dense(torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 3.0]]))
        >>> codes.token.tolist(), codes.feature.tolist(), codes.value.tolist()
        ([0, 2, 2], [1, 0, 1], [2.0, 1.0, 3.0])
    """

    token: Int[Tensor, " N"]
    feature: Int[Tensor, " N"]
    value: Float[Tensor, " N"]
    n_tokens: int
    n_features: int

    @classmethod
    def from_dense(cls, dense: Float[Tensor, "T F"]) -> Codes:
        """The non-zeros of a dense matrix."""
        token, feature = dense.nonzero(as_tuple=True)
        return cls(token, feature, dense[token, feature], dense.shape[0], dense.shape[1])

    @classmethod
    def encode(cls, encoder: Callable[[Tensor], Tensor], x: Tensor, n_features: int) -> Codes:
        """Encode flat tokens chunk by chunk, so that the T x F matrix is never dense as a whole.

        Args:
            encoder: maps tokens ``t ...`` to codes ``t F``.
            x: tokens along the first axis.
            n_features: F.
        """
        size = max(FEWEST_TOKENS, CHUNK // max(1, n_features))
        starts = range(0, len(x), size)
        chunks = [cls.from_dense(encoder(x[start : start + size])) for start in starts]
        return cls(
            token=torch.cat([chunk.token + start for chunk, start in zip(chunks, starts, strict=True)]),
            feature=torch.cat([chunk.feature for chunk in chunks]),
            value=torch.cat([chunk.value for chunk in chunks]),
            n_tokens=len(x),
            n_features=n_features,
        )

    @classmethod
    def empty(cls, like: Codes) -> Codes:
        """Codes in which no feature fires, with the sizes, dtype and device of `like`."""
        return cls(like.token[:0], like.feature[:0], like.value[:0], like.n_tokens, like.n_features)

    @classmethod
    def constant(cls, values: Float[Tensor, " F"], n_tokens: int) -> Codes:
        """The same codes on every token."""
        (feature,) = values.nonzero(as_tuple=True)
        token = torch.arange(n_tokens, device=values.device).repeat_interleave(len(feature))
        return cls(token, feature.repeat(n_tokens), values[feature].repeat(n_tokens), n_tokens, len(values))

    def rows(self, tokens: Int[Tensor, " M"]) -> Codes:
        """The codes of the given tokens, in the given order; a token may occur several times."""
        entry, token = entries_of(torch.bincount(self.token, minlength=self.n_tokens), tokens)
        return Codes(token, self.feature[entry], self.value[entry], len(tokens), self.n_features)

    def without(self, tokens: Bool[Tensor, " T"]) -> Codes:
        """The same codes, but no feature fires on the given tokens.

        Examples:
            >>> codes = Codes.from_dense(torch.tensor([[0.0, 2.0], [1.0, 3.0]]))
            >>> codes.without(torch.tensor([True, False])).dense().tolist()
            [[0.0, 0.0], [1.0, 3.0]]
        """
        mask = ~tokens[self.token]
        return Codes(self.token[mask], self.feature[mask], self.value[mask], self.n_tokens, self.n_features)

    def select(self, features: Sequence[int]) -> Codes:
        """The entries of the given features; all other features are zero."""
        selection = torch.zeros(self.n_features, dtype=torch.bool)
        selection[torch.tensor(list(features), dtype=torch.long)] = True
        mask = selection[self.feature]
        return Codes(self.token[mask], self.feature[mask], self.value[mask], self.n_tokens, self.n_features)

    def split(self, n_parts: int) -> list[Codes]:
        """The codes of `n_parts` dictionaries of equal size, whose features are numbered one dictionary after another.

        Examples:
            >>> first, second = Codes.from_dense(torch.tensor([[0.0, 2.0, 3.0, 0.0]])).split(2)
            >>> first.dense().tolist(), second.dense().tolist()
            ([[0.0, 2.0]], [[3.0, 0.0]])
        """
        n_features = self.n_features // n_parts
        part = self.feature // n_features
        masks = [part == index for index in range(n_parts)]
        return [
            Codes(self.token[mask], self.feature[mask] % n_features, self.value[mask], self.n_tokens, n_features)
            for mask in masks
        ]

    @classmethod
    def joined(cls, parts: Sequence[Codes]) -> Codes:
        """The codes of one dictionary whose features are those of several, numbered one dictionary after another.

        It undoes `split`. The entries of a token are in the order of the dictionaries.

        Raises:
            ShapeError: the codes are of other numbers of tokens.

        Examples:
            >>> first, second = Codes.from_dense(torch.tensor([[0.0, 2.0, 3.0, 0.0]])).split(2)
            >>> Codes.joined([first, second]).dense().tolist()
            [[0.0, 2.0, 3.0, 0.0]]
        """
        n_tokens = parts[0].n_tokens
        if any(part.n_tokens != n_tokens for part in parts):
            raise ShapeError(f"Codes of {', '.join(str(part.n_tokens) for part in parts)} tokens cannot be joined.")
        sizes = torch.tensor([part.n_features for part in parts])
        starts = (sizes.cumsum(0) - sizes).tolist()
        token = torch.cat([part.token for part in parts])
        feature = torch.cat([part.feature + start for part, start in zip(parts, starts, strict=True)])
        value = torch.cat([part.value for part in parts])
        order = torch.argsort(token, stable=True)
        return cls(token[order], feature[order], value[order], n_tokens, int(sizes.sum()))

    def largest(self, k: int, weights: Float[Tensor, " F"]) -> Codes:
        """The k entries of each token whose values times the weights of their features are largest.

        Examples:
            >>> codes = Codes.from_dense(torch.tensor([[1.0, 2.0, 3.0]]))
            >>> codes.largest(2, torch.tensor([9.0, 1.0, 1.0])).dense().tolist()
            [[1.0, 0.0, 3.0]]
        """
        # Sort by token and then by weighted value, number the entries of a token, and keep the first k
        order = torch.argsort(self.value * weights[self.feature], descending=True, stable=True)
        order = order[torch.argsort(self.token[order], stable=True)]
        counts = torch.bincount(self.token, minlength=self.n_tokens)
        place = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[self.token[order]]
        entry = order[place < k].sort().values
        return Codes(self.token[entry], self.feature[entry], self.value[entry], self.n_tokens, self.n_features)

    @classmethod
    def maximum(cls, codes: Sequence[Codes]) -> Codes:
        """The largest activation of each feature on each token among several codes of the same tokens.

        Codes that are one and the same object are returned as they are.

        Raises:
            ShapeError: the codes are of other numbers of tokens or features.

        Examples:
            >>> rows = [[[0.0, 2.0]], [[1.0, 0.5]]]
            >>> Codes.maximum([Codes.from_dense(torch.tensor(row)) for row in rows]).dense().tolist()
            [[1.0, 2.0]]
        """
        first = codes[0]
        if all(other is first for other in codes):
            return first
        for other in codes:
            if (other.n_tokens, other.n_features) != (first.n_tokens, first.n_features):
                raise ShapeError(
                    f"Codes of {other.n_tokens} tokens and {other.n_features} features cannot be compared with codes "
                    f"of {first.n_tokens} tokens and {first.n_features} features."
                )
        keys = torch.cat([other.token * first.n_features + other.feature for other in codes])
        values = torch.cat([other.value for other in codes])
        key, entry = torch.unique(keys, return_inverse=True)
        value = values.new_zeros(len(key)).scatter_reduce(0, entry, values, "amax", include_self=False)
        return cls(key // first.n_features, key % first.n_features, value, first.n_tokens, first.n_features)

    @property
    def l0(self) -> float:
        """Mean number of features that fire on a token; 0 if there are no tokens."""
        return len(self.value) / max(1, self.n_tokens)

    def mean(self) -> Float[Tensor, " F"]:
        """Mean activation of every feature over all tokens."""
        total = torch.zeros(self.n_features, dtype=torch.float64).index_add(0, self.feature, self.value.double())
        return (total / self.n_tokens).to(self.value.dtype)

    def check(self, feature: int) -> None:
        """Refuse a feature that does not exist; see `check_feature`."""
        check_feature(feature, self.n_features)

    def __neg__(self) -> Codes:
        return Codes(self.token, self.feature, -self.value, self.n_tokens, self.n_features)

    def __add__(self, other: Codes) -> Codes:
        """The entries of both; where both have a non-zero, two entries stay, which all methods sum."""
        if (self.n_tokens, self.n_features) != (other.n_tokens, other.n_features):
            raise ShapeError(
                f"Codes of {self.n_tokens} tokens and {self.n_features} features do not add to codes of "
                f"{other.n_tokens} tokens and {other.n_features} features."
            )
        token = torch.cat([self.token, other.token])
        order = torch.argsort(token, stable=True)
        return Codes(
            token=token[order],
            feature=torch.cat([self.feature, other.feature])[order],
            value=torch.cat([self.value, other.value])[order],
            n_tokens=self.n_tokens,
            n_features=self.n_features,
        )

    def to(self, device: torch.device | str) -> Codes:
        """The same codes on another device."""
        token, feature, value = (tensor.to(device) for tensor in (self.token, self.feature, self.value))
        return Codes(token, feature, value, self.n_tokens, self.n_features)

    def dense(self) -> Float[Tensor, "T F"]:
        """The whole matrix."""
        dense = self.value.new_zeros(self.n_tokens, self.n_features)
        return dense.index_put((self.token, self.feature), self.value, accumulate=True)

    def decode(self, directions: Float[Tensor, "F D"]) -> Float[Tensor, "T D"]:
        """``codes @ directions``, summed over the non-zeros."""
        counts = torch.bincount(self.token, minlength=self.n_tokens)
        offsets = counts.cumsum(0) - counts
        return torch.nn.functional.embedding_bag(
            self.feature, directions, offsets, mode="sum", per_sample_weights=self.value.to(directions)
        )

    def inner(self, gradient: Float[Tensor, "T D"], directions: Float[Tensor, "F D"]) -> Float[Tensor, " N"]:
        """``value * <gradient[token], directions[feature]>`` of every entry.

        The inner product of an entry is the derivative of ``<gradient, decode(directions)>`` with respect to its value,
        so the backward pass of `decode` computes all of them without a matrix of size T x F or N x D.
        """
        with torch.enable_grad():
            value = torch.ones_like(self.value, dtype=directions.dtype).requires_grad_()
            decoded = replace(self, value=value).decode(directions.detach())
        return torch.autograd.grad(decoded, value, gradient)[0] * self.value
