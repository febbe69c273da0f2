"""What stages cost, whatever the machine: operations, bytes moved through memory, and bytes of memory and disk."""

from __future__ import annotations

import math
from dataclasses import dataclass

from crosstime.runs.plan.model_size import ModelSize

Number = int | float
ADAM_BYTES = 28
"""Bytes that Adam reads and writes for each float32 weight: weight, gradient and two moments; all but the gradient."""


@dataclass(frozen=True)
class Work:
    """Some computation.

    Attributes:
        flops: floating-point operations of matrix products.
        moved: bytes that they read and write: each operand and each result once.

    Examples:
        >>> 2 * Work(flops=3) + Work(moved=4)
        Work(flops=6, moved=4)
    """

    flops: Number = 0
    moved: Number = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.moved + other.moved)

    def __rmul__(self, times: Number) -> Work:
        return Work(times * self.flops, times * self.moved)


@dataclass(frozen=True)
class ForwardPass:
    """What forward passes of a model cost, with T tokens in sequences of S.

    ::

        T tokens through n blocks    n T (2 P + 4 S D)    P: weights of a block
        the logits of T tokens       2 T V D

    Attributes:
        model: size of the model.
        length: S, tokens of a sequence.
        batch: tokens of one pass.

    Examples:
        >>> ForwardPass(ModelSize(64, 4, 1000, 256), length=16, batch=512).blocks(4, 512).flops
        209715200
    """

    model: ModelSize
    length: int
    batch: int

    def blocks(self, n_blocks: Number, tokens: Number, *, gradients: bool = False) -> Work:
        """Tokens through some blocks; with gradients also back to what went in (those of weights are not computed)."""
        model = self.model
        flops = n_blocks * tokens * (2 * model.block_parameters + 4 * self.length * model.d_model)
        # Each pass reads the weights; each token is read and written by six or seven products.
        activations = 10 * model.d_model + (5 if model.gated else 2) * model.mlp_width
        moved = 4 * n_blocks * (math.ceil(tokens / self.batch) * model.block_parameters + tokens * activations)
        return (2 if gradients else 1) * Work(flops, moved)

    def logits(self, tokens: Number) -> Work:
        """All logits of tokens."""
        unembedding = self.model.vocab_size * self.model.d_model
        moved = 4 * (math.ceil(tokens / self.batch) * unembedding + tokens * self.model.vocab_size)
        return Work(2 * tokens * unembedding, moved)


@dataclass(frozen=True)
class Cost:
    """The cost of one stage.

    Attributes:
        stage: name of the stage.
        what: the sizes that decide it, in words.
        work: what it computes.
        memory: bytes on the device at once.
        host: bytes of main memory at once, without libraries; on a CPU the same as `memory`.
        disk: bytes that it writes or downloads, at their most.
    """

    stage: str
    what: str
    work: Work
    memory: Number
    host: Number
    disk: Number

    @property
    def flops(self) -> Number:
        """Floating-point operations of matrix products."""
        return self.work.flops
