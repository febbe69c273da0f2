"""Random directions in place of those of a crosscoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crosstime.crosscoders.dictionary import Dictionary
from crosstime.crosscoders.origin import Origin
from interventions import DecoderSource, Decomposition


@dataclass(frozen=True, eq=False)
class RandomDirections:
    """The codes of a dictionary, each with a random direction of the same norm.

    A feature fires on the same tokens, as strongly, and changes the activation by as much as the dictionary's; only
    where to is drawn at random, once for all checkpoints.

    Attributes:
        original: the dictionary.
        seed: of the directions.

    Examples:
        >>> from crosstime.crosscoders.crosscoder import CrossCoder
        >>> from interventions import Site
        >>> crosscoder = CrossCoder(Origin("tiny", ("step64", "main"), Site(1), d_model=8), 16)
        >>> x = torch.randn(2, 5, 8)
        >>> random, own = RandomDirections(crosscoder, seed=0).decompose(x)[0], crosscoder.decompose(x)[0]
        >>> torch.allclose(random.directions.norm(dim=1), own.directions.norm(dim=1))
        True
    """

    original: Dictionary
    seed: int = 0

    @property
    def origin(self) -> Origin:
        """Checkpoints, site and width of the dictionary."""
        return self.original.origin

    @property
    def n_checkpoints(self) -> int:
        """C."""
        return self.original.n_checkpoints

    @property
    def n_features(self) -> int:
        """F."""
        return self.original.n_features

    def decoder_norms(self) -> Float[Tensor, "C F"]:
        """The norms of the dictionary's directions."""
        return self.original.decoder_norms()

    def decompose(self, x: Float[Tensor, "C T D"], fixed: Bool[Tensor, " T"] | None = None) -> list[Decomposition]:
        """See `crosstime.crosscoders.dictionary.Dictionary.decompose`."""
        shape = self.n_features, self.origin.d_model
        return [
            replace(own, decoder=DecoderSource(shape, self._turned(own.decoder), own.x.device))
            for own in self.original.decompose(x, fixed)
        ]

    def _turned(self, decoder: Float[Tensor, "F D"] | DecoderSource) -> Callable[[], Float[Tensor, "F D"]]:
        """A function that draws a direction for each row of the decoder; the directions are not kept."""

        def draw() -> Float[Tensor, "F D"]:
            rows = decoder.read() if isinstance(decoder, DecoderSource) else decoder
            drawn = torch.randn(rows.shape, generator=torch.Generator().manual_seed(self.seed)).to(rows)
            return drawn / drawn.norm(dim=1, keepdim=True) * rows.norm(dim=1, keepdim=True)

        return draw
