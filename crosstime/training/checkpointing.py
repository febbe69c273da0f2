"""Options of saving the state of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crosstime.errors import CrosscoderError


@dataclass(frozen=True)
class Checkpointing:
    """Where and how often the state of a training run is saved.

    Attributes:
        path: checkpoint to save to and resume from; never deleted automatically. None saves nothing.
        every: number of steps between two saves.

    Raises:
        CrosscoderError: `every` is below 1.

    Examples:
        >>> Checkpointing("training.safetensors").every
        1000
    """

    path: str | Path | None = None
    every: int = 1_000

    def __post_init__(self) -> None:
        if self.every < 1:
            raise CrosscoderError(f"Checkpointing.every must be at least 1 step, not {self.every}.")
