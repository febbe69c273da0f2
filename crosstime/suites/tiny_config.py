"""What a tiny suite is: architecture, size and training schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from crosstime.errors import SuiteError
from user_input.nearest import nearest

Architecture = Literal["gpt_neox", "olmo", "olmo2", "bloom"]
ARCHITECTURES: tuple[str, ...] = get_args(Architecture)

BYTES = 256
"""Tokens of a byte-level vocabulary before any merge."""


@dataclass(frozen=True)
class TinyConfig:
    """What to train and for how long; lengths are in tokens.

    Attributes:
        architecture: one of `ARCHITECTURES`; pre-norm with parallel, serial or post-norm blocks, rotary positions or
            ALiBi. A block's output is a tensor in three of them and a tuple in BLOOM.
        d_model: width of the residual stream.
        n_layers: number of decoder blocks.
        n_heads: number of attention heads; divides `d_model`.
        vocab_size: largest vocabulary of the byte-level BPE tokenizer; smaller when the text runs out of merges.
        sequence_length: tokens of a training sequence.
        batch_tokens: tokens of an optimizer step; a multiple of `sequence_length`.
        steps: optimizer steps of AdamW(0.9, 0.95) that the learning rate schedule is made for.
        checkpoints: increasing steps after which the model is saved; training ends at the last one.
        lr: largest learning rate, reached after `warmup` steps; then it follows a cosine down to a tenth of it.
        warmup: steps of linear increase.
        weight_decay: of weight matrices; biases and norms are not decayed.
        seed: of the initial weights and the order of the text.

    Raises:
        SuiteError: an unknown architecture, or numbers that do not fit together.

    Examples:
        >>> TinyConfig(architecture="olmo", steps=64, checkpoints=(0, 64)).n_layers
        4
    """

    architecture: str = "gpt_neox"
    d_model: int = 64
    n_layers: int = 4
    n_heads: int = 4
    vocab_size: int = 512
    sequence_length: int = 32
    batch_tokens: int = 1024
    steps: int = 512
    checkpoints: tuple[int, ...] = (0, 16, 32, 64, 128, 256, 512)
    lr: float = 3e-3
    warmup: int = 16
    weight_decay: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        # Check the model
        if self.architecture not in ARCHITECTURES:
            raise SuiteError(f"unknown architecture {self.architecture!r}: {nearest(self.architecture, ARCHITECTURES)}")
        for name in ("d_model", "n_layers", "n_heads", "sequence_length", "batch_tokens", "steps"):
            if getattr(self, name) < 1:
                raise SuiteError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.d_model % (2 * self.n_heads):
            raise SuiteError(f"d_model ({self.d_model}) must be a multiple of 2 * n_heads (2 * {self.n_heads})")

        # Check the text
        if self.batch_tokens % self.sequence_length:
            raise SuiteError(
                f"batch_tokens ({self.batch_tokens}) must be a multiple of sequence_length ({self.sequence_length})"
            )
        if self.vocab_size <= BYTES:
            raise SuiteError(f"vocab_size must be above {BYTES}, one a byte, not {self.vocab_size}")

        # Check the schedule
        if not self.checkpoints or list(self.checkpoints) != sorted(set(self.checkpoints)):
            raise SuiteError(f"checkpoints must be increasing steps, not {list(self.checkpoints)}")
        if self.checkpoints[0] < 0 or self.checkpoints[-1] > self.steps:
            raise SuiteError(f"checkpoints must lie between 0 and steps ({self.steps}), not {list(self.checkpoints)}")
        if self.lr <= 0:
            raise SuiteError(f"lr must be positive, not {self.lr}")
        for name in ("warmup", "weight_decay"):
            if getattr(self, name) < 0:
                raise SuiteError(f"{name} must not be negative; got {getattr(self, name)}")


DEMO = TinyConfig(lr=3e-3, steps=512, checkpoints=(0, 16, 32, 64, 128, 256, 512))
DEMO_SENTENCES = 60_000
DEMO_ATTRACTOR_SHARE = 0.05
"""The training text of the demo is ``tasks.agreement.sentences`` with this count and this attractor share.

With an attractor in three sentences of a hundred, the nearest noun is a good guide for a long time: with seeds 0, 1
and 2 the model agrees with it at step 64 (all simple pairs right, all attractor pairs wrong), begins to leave it at
about step 128, and agrees with the subject at step 256 (all pairs right).
"""
