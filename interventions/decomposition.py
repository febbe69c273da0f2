"""Activations decomposed into the features of a dictionary and an error term."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interventions.codes import Codes
from interventions.decoder_source import DecoderSource
from interventions.errors import InterventionError, ShapeError

_COMPARED = 16
"""Tokens of which a dictionary's own reconstruction is compared with that of its directions."""
_TOLERANCE = 1e-3
_UNITS = 1 << 22
"""Numbers of the unit vectors that are decoded at a time."""


@runtime_checkable
class Autoencoder(Protocol):
    """A dictionary of one model: it encodes activations into codes, and decodes them by directions and a bias."""

    def encode(self, x: Tensor, /) -> Tensor:
        """Codes ``T F`` of activations ``T D``."""
        ...

    def decode(self, f: Tensor, /) -> Tensor:
        """Activations ``T D`` of codes ``T F``, an affine function of them."""
        ...


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Activations at one site of one model, as features and the remainder that the features do not explain.

    ``x = codes @ directions + bias + error``; the error term is defined as what makes this exact.

    Attributes:
        x: T D, the model's own activations.
        codes: f, T F.
        decoder: F D, the contribution to x of one unit of each feature, times `scale`; or a `DecoderSource` that makes
            it whenever it is needed.
        bias: D, in the model's own scale.
        scale: divisor of `decoder`. It is stored apart so that the decompositions of C checkpoints share the weights
            of one dictionary instead of holding scaled copies.
        fixed: T, tokens that effects and ablations leave as they are, because the dictionary knows nothing of them,
            such as the start token of a prompt; None if there are none. No feature fires there, so that the error term
            is all of x but the bias, and every baseline keeps it.

    Raises:
        ShapeError: the sizes do not fit each other, or a feature fires on a fixed token.

    Source: Marks et al. 2024 (arXiv 2403.19647), section 2.
    """

    x: Float[Tensor, "T D"]
    codes: Codes
    decoder: Float[Tensor, "F D"] | DecoderSource
    bias: Float[Tensor, " D"]
    scale: float = 1.0
    fixed: Bool[Tensor, " T"] | None = None

    def __post_init__(self) -> None:
        n_tokens, width = self.x.shape
        if self.codes.n_tokens != n_tokens or tuple(self.decoder.shape) != (self.codes.n_features, width):
            raise ShapeError(
                f"Activations of shape {(n_tokens, width)} do not fit codes of shape "
                f"{(self.codes.n_tokens, self.codes.n_features)} and directions of shape "
                f"{tuple(self.decoder.shape)}."
            )
        if self.fixed is not None and (len(self.fixed) != n_tokens or self.fixed[self.codes.token].any()):
            raise ShapeError(f"The fixed tokens must be {n_tokens} truth values, and no feature may fire on them.")

    @classmethod
    @torch.no_grad()
    def of(
        cls, dictionary: Autoencoder, x: Float[Tensor, "T D"], *, fixed: Bool[Tensor, " T"] | None = None
    ) -> Decomposition:
        """Decompose activations by any dictionary that encodes and decodes, of dictionary_learning or SAELens too.

        The bias and the directions are read off its decoder, ``decode(0)`` and ``decode(e_i) - decode(0)``, so that its
        parameters need no particular names; its own reconstruction of some tokens is compared with theirs.

        Args:
            dictionary: encodes T tokens to codes ``T F``, and decodes codes by an affine function.
            x: activations of one model at the site that it was trained on.
            fixed: tokens that effects leave as they are; see `Decomposition`.

        Raises:
            ShapeError: codes or reconstructions do not have T rows.
            InterventionError: the decoder is no affine function of the codes, as where it undoes a normalisation of
                each token.

        Examples:
            >>> decomposition = Decomposition.of(autoencoder, fetch(model, prompts, [site])[site])  # doctest: +SKIP
        """
        # Encode, some tokens at a time
        first = dictionary.encode(x[:1])
        if first.dim() != 2 or len(first) != len(x[:1]):
            raise ShapeError(f"A dictionary must encode T tokens to T F codes, not to shape {tuple(first.shape)}.")
        codes = Codes.encode(dictionary.encode, x, first.shape[1])
        if fixed is not None:
            codes = codes.without(fixed)

        # Read bias and directions off the decoder
        bias = dictionary.decode(torch.zeros_like(first[:1])).squeeze(0)
        if bias.shape != x.shape[1:]:
            raise ShapeError(
                f"A dictionary must decode codes to {x.shape[1]} numbers, not to shape {tuple(bias.shape)}."
            )
        decoder = torch.cat([dictionary.decode(units) - bias for units in _units(first.shape[1], like=first)])

        # Compare with its own reconstruction
        sample = slice(0, _COMPARED)
        expected = dictionary.decode(dictionary.encode(x[sample]))
        actual = Codes.encode(dictionary.encode, x[sample], first.shape[1]).decode(decoder) + bias
        tolerance = _TOLERANCE * max(1.0, float(expected.abs().max()))
        if not torch.allclose(actual, expected, rtol=_TOLERANCE, atol=tolerance):
            raise InterventionError(
                f"The decoder of {type(dictionary).__name__} is no affine function of its codes: its reconstruction "
                f"differs by {float((actual - expected).abs().max()):.2g} from codes times directions plus bias."
            )
        return cls(x, codes, decoder, bias, fixed=fixed)

    @property
    def directions(self) -> Float[Tensor, "F D"]:
        """Contribution to x of one unit of each feature; a new tensor at every access unless `scale` is 1."""
        if isinstance(self.decoder, DecoderSource):
            return self.decoder.read().div_(self.scale)
        return self.decoder if self.scale == 1 else self.decoder / self.scale

    @property
    def reconstruction(self) -> Float[Tensor, "T D"]:
        """``codes @ directions + bias``."""
        return self.codes.decode(self.directions) + self.bias

    @property
    def error(self) -> Float[Tensor, "T D"]:
        """The error term ``x - reconstruction``."""
        return self.x - self.reconstruction

    def rows(self, tokens: Int[Tensor, " M"]) -> Decomposition:
        """The decomposition of the given tokens, in the given order."""
        fixed = None if self.fixed is None else self.fixed[tokens]
        return replace(self, x=self.x[tokens], codes=self.codes.rows(tokens), fixed=fixed)

    def to(self, device: torch.device | str) -> Decomposition:
        """The same decomposition on another device."""
        return Decomposition(
            self.x.to(device),
            self.codes.to(device),
            self.decoder.to(device),
            self.bias.to(device),
            self.scale,
            None if self.fixed is None else self.fixed.to(device),
        )


def _units(n_features: int, like: Float[Tensor, "T F"]) -> Iterator[Float[Tensor, "K F"]]:
    """The unit vectors of all features, some at a time."""
    size = max(1, _UNITS // n_features)
    for start in range(0, n_features, size):
        features = torch.arange(start, min(start + size, n_features), device=like.device)
        units = torch.zeros(len(features), n_features, device=like.device, dtype=like.dtype)
        yield units.scatter_(1, features.unsqueeze(1), 1.0)
