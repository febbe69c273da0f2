"""Activations decomposed into the features of a dictionary and an error term."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interventions.codes import Codes
from interventions.decoder_source import DecoderSource
from interventions.errors import ShapeError


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
