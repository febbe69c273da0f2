"""The state of a shuffle buffer, which is saved with a training run."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Shaped, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class BufferState:
    """Everything that a buffer needs to continue with the same batches in another process.

    Attributes:
        activations: activations that have not been served yet, in the order in which they will be, encoded as rows
            of the buffer's format.
        generator: state of the random generator that shuffles.
        scales: ``s_c = sqrt(D) / E||x_c||``.
        medians: median norm at each checkpoint, by which tokens of huge norm are left out; None if none are.
        left_out: number of tokens that were left out so far.
        tokens: number of tokens read so far, without those.
        sequences: how far the source has been read: number of sequences of a text, or of blocks of a store.
        digest: digest of the text read so far, or of the store.
        exhausted: whether the source has nothing more to read.
    """

    activations: Shaped[Tensor, "T C E"]
    generator: UInt8[Tensor, " G"]
    scales: Float[Tensor, " C"]
    tokens: int
    sequences: int
    digest: str
    exhausted: bool
    medians: Float[Tensor, " C"] | None = None
    left_out: int = 0
