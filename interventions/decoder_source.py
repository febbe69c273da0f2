"""A decoder that is made anew whenever it is needed, because it is too large to be kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DecoderSource:
    """A function that makes the decoder of a dictionary at one checkpoint, in place of the decoder itself.

    The decompositions of C checkpoints refer to C decoders, of which only that of the checkpoint in work is needed. A
    dictionary that is read from files passes a function that reads this one.

    Attributes:
        shape: F and D.
        make: returns the decoder, F D, as a new tensor.
        device: where the decoder is used.

    Examples:
        >>> source = DecoderSource((2, 3), lambda: torch.ones(2, 3))
        >>> source.read().sum()
        tensor(6.)
    """

    shape: tuple[int, int]
    make: Callable[[], Float[Tensor, "F D"]]
    device: torch.device | str = "cpu"

    def read(self) -> Float[Tensor, "F D"]:
        """The decoder, which belongs to the caller."""
        return self.make().to(self.device)

    def to(self, device: torch.device | str) -> DecoderSource:
        """The same decoder, used on another device."""
        return replace(self, device=device)
