"""Sparse feature codes of flat tokens, and activations decomposed into features and an error term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions.errors import FeatureError, ShapeError

CHUNK, FEWEST_TOKENS = 1 << 20, 64
"""Most numbers in one dense intermediate below (4 MB in float32), but never fewer than so many tokens at once."""


def check_feature(feature: int, n_features: int) -> None:
    """Refuse a feature that a dictionary of `n_features` does not have.

    Raises:
        FeatureError: it is not one of 0 to F - 1.
    """
    if not 0 <= feature < n_features:
        raise FeatureError(f"Feature {feature} does not exist: this dictionary has features 0 to {n_features - 1}.")


def entries_of(counts: Int[Tensor, " R"], chosen: Int[Tensor, " M"]) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Where the entries of chosen rows are in a list sorted by row, and which of the chosen each belongs to.

    Args:
        counts: entries of each row of the list.
        chosen: rows, in any order, each as often as its entries are wanted.

    Examples:
        >>> [part.tolist() for part in entries_of(torch.tensor([2, 0, 1]), torch.tensor([2, 0, 2]))]
        [[2, 0, 1, 2], [0, 1, 1, 2]]
    """
    times = counts[chosen]
    owner = torch.arange(len(chosen)).repeat_interleave(times)
    within = torch.arange(len(owner)) - (times.cumsum(0) - times)[owner]
    return (counts.cumsum(0) - counts)[chosen][owner] + within, owner


@dataclass(frozen=True, eq=False)
class Codes:
    """Which features fire on which token, and how strongly: a T x F matrix of which only non-zeros are kept.

    Attributes:
        token, feature, value: one entry a non-zero, in ascending order of token.
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
        """Keep the non-zeros of a matrix."""
        token, feature = dense.nonzero(as_tuple=True)
        return cls(token, feature, dense[token, feature], dense.shape[0], dense.shape[1])

    @classmethod
    def encode(cls, encoder: Callable[[Tensor], Tensor], x: Tensor, n_features: int) -> Codes:
        """Encode flat tokens piece by piece, so that only a piece of T x F is ever dense.

        Args:
            encoder: gives codes ``t F`` of tokens ``t ...``.
            x: tokens along the first axis.
            n_features: F.
        """
        step = max(FEWEST_TOKENS, CHUNK // max(1, n_features))
        pieces = [cls.from_dense(encoder(x[start : start + step])) for start in range(0, len(x), step)]
        starts = range(0, len(x), step)
        return cls(
            torch.cat([piece.token + start for piece, start in zip(pieces, starts, strict=True)]),
            torch.cat([piece.feature for piece in pieces]),
            torch.cat([piece.value for piece in pieces]),
            len(x),
            n_features,
        )

    @classmethod
    def empty(cls, like: Codes) -> Codes:
        """No feature fires anywhere; sizes, dtype and device as `like`."""
        return cls(like.token[:0], like.feature[:0], like.value[:0], like.n_tokens, like.n_features)

    @classmethod
    def constant(cls, values: Float[Tensor, " F"], n_tokens: int) -> Codes:
        """Every token has the same codes."""
        (feature,) = values.nonzero(as_tuple=True)
        token = torch.arange(n_tokens, device=values.device).repeat_interleave(len(feature))
        return cls(token, feature.repeat(n_tokens), values[feature].repeat(n_tokens), n_tokens, len(values))

    def rows(self, tokens: Int[Tensor, " M"]) -> Codes:
        """The codes of some tokens, in the order given, each as often as it is named."""
        entry, token = entries_of(torch.bincount(self.token, minlength=self.n_tokens), tokens)
        return Codes(token, self.feature[entry], self.value[entry], len(tokens), self.n_features)

    @property
    def l0(self) -> float:
        """Features that fire on a token, on average; 0 without tokens."""
        return len(self.value) / max(1, self.n_tokens)

    def mean(self) -> Float[Tensor, " F"]:
        """Mean activation of every feature over all tokens."""
        total = torch.zeros(self.n_features, dtype=torch.float64).index_add(0, self.feature, self.value.double())
        return (total / self.n_tokens).to(self.value.dtype)

    def check(self, feature: int) -> None:
        """Refuse a feature that does not exist; see `check_feature`."""
        check_feature(feature, self.n_features)

    def of(self, features: Sequence[int]) -> Codes:
        """Only the entries of some features."""
        wanted = torch.zeros(self.n_features, dtype=torch.bool)
        wanted[torch.tensor(list(features), dtype=torch.long)] = True
        kept = wanted[self.feature]
        return Codes(self.token[kept], self.feature[kept], self.value[kept], self.n_tokens, self.n_features)

    def __neg__(self) -> Codes:
        return Codes(self.token, self.feature, -self.value, self.n_tokens, self.n_features)

    def __add__(self, other: Codes) -> Codes:
        """Entries of both; a non-zero of both stays two entries, which every sum here adds up."""
        if (self.n_tokens, self.n_features) != (other.n_tokens, other.n_features):
            raise ShapeError(
                f"Codes of {self.n_tokens} tokens and {self.n_features} features do not add to codes of "
                f"{other.n_tokens} tokens and {other.n_features} features."
            )
        token = torch.cat([self.token, other.token])
        order = torch.argsort(token, stable=True)
        return Codes(
            token[order],
            torch.cat([self.feature, other.feature])[order],
            torch.cat([self.value, other.value])[order],
            self.n_tokens,
            self.n_features,
        )

    def to(self, device: torch.device | str) -> Codes:
        """The same codes on another device."""
        return Codes(
            self.token.to(device),
            self.feature.to(device),
            self.value.to(device),
            self.n_tokens,
            self.n_features,
        )

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
        """``value * <gradient[token], directions[feature]>`` of every entry, never building T x F or entries x D.

        The inner products are what `decode` hands back to its values, so its backward pass computes them.
        """
        with torch.enable_grad():
            value = torch.ones_like(self.value, dtype=directions.dtype).requires_grad_()
            decoded = replace(self, value=value).decode(directions.detach())
        return torch.autograd.grad(decoded, value, gradient)[0] * self.value


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Activations at one site of one model as features and what the features miss.

    ``x = codes @ directions + bias + error``; the error is whatever makes it exact (Marks et al. 2024).

    Attributes:
        x: T D, the model's own activations.
        codes: f, T F.
        decoder: F D, what one unit of each feature adds to x, but for the scale.
        bias: D, in the model's own scale.
        scale: by which `decoder` is to be divided. Kept apart, so that the decompositions of C checkpoints share the
            weights of one dictionary and hold no copies of them.

    Raises:
        ShapeError: sizes do not fit each other.
    """

    x: Float[Tensor, "T D"]
    codes: Codes
    decoder: Float[Tensor, "F D"]
    bias: Float[Tensor, " D"]
    scale: float = 1.0

    def __post_init__(self) -> None:
        n_tokens, width = self.x.shape
        if self.codes.n_tokens != n_tokens or self.decoder.shape != (self.codes.n_features, width):
            raise ShapeError(
                f"Activations of shape {(n_tokens, width)} do not fit codes of shape "
                f"{(self.codes.n_tokens, self.codes.n_features)} and directions of shape "
                f"{tuple(self.decoder.shape)}."
            )

    @property
    def directions(self) -> Float[Tensor, "F D"]:
        """What one unit of each feature adds to x, in the model's own scale; made anew unless the scale is one."""
        return self.decoder if self.scale == 1 else self.decoder / self.scale

    @property
    def reconstruction(self) -> Float[Tensor, "T D"]:
        """``codes @ directions + bias``."""
        return self.codes.decode(self.directions) + self.bias

    @property
    def error(self) -> Float[Tensor, "T D"]:
        """The error term ``x - reconstruction``."""
        return self.x - self.reconstruction

    def to(self, device: torch.device | str) -> Decomposition:
        """The same decomposition on another device."""
        return Decomposition(
            self.x.to(device), self.codes.to(device), self.decoder.to(device), self.bias.to(device), self.scale
        )
