"""Options of saving the state of a training run, and of where it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crosstime.errors import CrosscoderError

if TYPE_CHECKING:
    from crosstime.crosscoders.crosscoder import CrossCoder


@dataclass(frozen=True)
class Checkpointing:
    """Where and how often the state of a training run is saved, and from what it starts.

    Attributes:
        path: checkpoint to save to and resume from; never deleted automatically. None saves nothing.
        every: number of steps between two saves.
        start: a crosscoder from whose weights, biases and thresholds training starts, in place of random ones; of the
            same kind, number of features and of checkpoints. Its scales are not taken over.

    Raises:
        CrosscoderError: `every` is below 1.

    Examples:
        >>> Checkpointing("training.safetensors").every
        1000
    """

    path: str | Path | None = None
    every: int = 1_000
    start: CrossCoder | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise CrosscoderError(f"Checkpointing.every must be at least 1 step, not {self.every}.")
