"""What a null model does to activations: those that a crosscoder is trained on, and those of held-out text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.errors import CrosscoderError

_HELD_OUT = -1
"""Stands for the number of tokens served before held-out text, whose draws are none of a training batch."""
_STREAM = 0x9E3779B97F4A7C15
"""Odd constant by which the seed is spread over 64 bits, so that the draws of neighbouring seeds do not coincide."""


@dataclass(frozen=True)
class NullBatches:
    """A transformation of training batches ``B C D`` and of held-out text, under which a finding is false.

    ::

        permuted    x_c[t] becomes x_c[pi_c(t)], with an independent permutation pi_c of the batch at each checkpoint
        noise       x_c[t] becomes x_c[t] + noise_c e, with independent standard normal e

    Permuted checkpoints keep their own activations, but no token is paired with itself: what is shared between them is
    not in the data. The draws of a batch depend on the seed and on the number of tokens served before it, so that an
    interrupted training resumes to the same weights.

    Attributes:
        permuted: whether the tokens are permuted, independently at each checkpoint.
        noise: standard deviation of the noise in each of the D dimensions, in the models' own scale, at each of the C
            checkpoints; empty for none.
        seed: seed of permutations and noise.

    Raises:
        CrosscoderError: a standard deviation is negative or not finite.

    Examples:
        >>> x = torch.arange(4.0).reshape(4, 1, 1).repeat(1, 2, 1)
        >>> permuted = NullBatches(permuted=True, seed=1)(x, served=0)
        >>> permuted.squeeze().sort(0).values.tolist() == x.squeeze().tolist()
        True
    """

    permuted: bool = False
    noise: tuple[float, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for deviation in self.noise:
            if not 0 <= deviation < float("inf"):
                raise CrosscoderError(f"noise is a standard deviation of at least 0, not {deviation}.")

    def __call__(self, x: Float[Tensor, "B C D"], served: int) -> Float[Tensor, "B C D"]:
        """The transformed batch.

        Args:
            x: a batch of activations in the models' own scale.
            served: number of tokens that were served before it.
        """
        return self._transform(x, served)

    def held_out(self, x: Float[Tensor, "C N D"]) -> Float[Tensor, "C N D"]:
        """The transformed activations of held-out text, with draws that no training batch has.

        Args:
            x: activations of N tokens at C checkpoints in the models' own scale.
        """
        return self._transform(x.transpose(0, 1), _HELD_OUT).transpose(0, 1).contiguous()

    def _transform(self, x: Float[Tensor, "B C D"], served: int) -> Float[Tensor, "B C D"]:
        generator = torch.Generator().manual_seed((self.seed * _STREAM + served) % 2**63)
        if self.permuted:
            orders = [torch.randperm(len(x), generator=generator) for _ in range(x.shape[1])]
            x = torch.stack([x[order, c] for c, order in enumerate(orders)], 1)
        if self.noise:
            deviations = torch.tensor(self.noise).unsqueeze(-1)
            x = (x + deviations * torch.randn(x.shape, generator=generator)).to(x.dtype)
        return x
