"""What a part of a run asks of a machine: arithmetic, traffic of memory, and calls of operations."""

from __future__ import annotations

from dataclasses import dataclass

from crosstime.runs.plan.known_models import ModelSize
from crosstime.runs.plan.rates import Machine

Number = int | float

EFFICIENCY = {"cpu": 0.92, "cuda": 0.5}
"""Share of the speed of large matrix products that those of models and crosscoders reach."""
TRACE, UPWARD, BLOCK = 2_900, 2_100, 180
"""Calls of a pass whatever its depth, tracing included; more of them where it starts at a site; of each block in it."""
OPEN, TRIALS = 190_000, 12
"""Calls of opening a checkpoint; and how many passes it is tried with."""
TRAFFIC = 100
"""Numbers that a block reads and writes for each of the residual stream's, its matrix products left out."""
LOSS_TRAFFIC = 40
"""The same of a cross-entropy for each logit: exponentials cost as much as moving so many."""
READING = 25
"""Numbers that are moved for each weight that is read from disk."""


@dataclass(frozen=True)
class Work:
    """Some work, in units that differ between machines by a factor each.

    Attributes:
        flops: floating-point operations of matrix products.
        moved: bytes that all else reads and writes.
        calls: of operations.

    Examples:
        >>> machine = Machine("cpu", "2 cores", 1e11, 1e10, 1e-6, 10**10, 10**10, 10**12)
        >>> (2 * Work(flops=4e10) + Work(moved=1e10)).seconds(machine)
        2.0
    """

    flops: Number = 0
    moved: Number = 0
    calls: Number = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.moved + other.moved, self.calls + other.calls)

    def __rmul__(self, times: Number) -> Work:
        return Work(times * self.flops, times * self.moved, times * self.calls)

    def seconds(self, machine: Machine) -> Number:
        """How long a machine takes; a GPU computes while the next operation is called."""
        computing = self.flops / (machine.flops * EFFICIENCY[machine.device]) + self.moved / machine.bandwidth
        calling = self.calls * machine.call
        return max(computing, calling) if machine.device == "cuda" else computing + calling


@dataclass(frozen=True)
class Passes:
    """What passes of a model cost.

    ::

        T tokens in sequences of S through n blocks    n T (2 P + 4 S D)    P: weights of a block
        the logits of all of them                      2 T V D

    Attributes:
        size: of the model.
        length: of a sequence.
        at_once: tokens of one pass.

    Examples:
        >>> Passes(ModelSize(64, 4, 1000, 256), length=16, at_once=512).through(4, 512).flops
        209715200
    """

    size: ModelSize
    length: int
    at_once: int

    def through(self, blocks: Number, tokens: Number, *, gradients: bool = False) -> Work:
        """Tokens through some blocks; with gradients also back to what went in (the weights have none)."""
        size = self.size
        one = Work(
            2 * size.block_parameters + 4 * self.length * size.d_model,
            4 * (TRAFFIC * size.d_model + 4 * size.mlp_width),
        )
        passes = tokens / self.at_once
        return (2 if gradients else 1) * (tokens * blocks * one + Work(calls=passes * (TRACE + BLOCK * blocks)))

    def upward(self, blocks: Number, tokens: Number, *, gradients: bool = False) -> Work:
        """The same from a site to the metric: prompts are laid out and activations put in their places."""
        placed = Work(calls=UPWARD * tokens / self.at_once)
        return self.through(blocks, tokens, gradients=gradients) + (2 if gradients else 1) * placed

    def logits(self, tokens: Number) -> Work:
        """All logits of tokens, and the loss of each."""
        size = self.size
        return Work(2 * tokens * size.vocab_size * size.d_model, 4 * LOSS_TRAFFIC * tokens * size.vocab_size)

    def opening(self) -> Work:
        """A checkpoint from disk, with the passes that try it."""
        tried = TRIALS * (TRACE + BLOCK * self.size.n_layers)
        return Work(moved=4 * READING * self.size.parameters, calls=OPEN + tried)
