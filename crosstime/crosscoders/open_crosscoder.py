"""Open a crosscoder for use: in memory where it fits, otherwise a slice of its features at a time."""

from __future__ import annotations

from pathlib import Path

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.hub import WEIGHTS
from crosstime.crosscoders.sliced_crosscoder import SlicedCrossCoder
from crosstime.machine.memory import main_memory
from crosstime.machine.part_names import is_sharded
from user_input.home import expanded

MEMORY_SHARE = 0.5
"""Share of the main memory that a crosscoder may take: models and activations need the rest."""


def open_crosscoder(path: str | Path) -> CrossCoder:
    """Open a crosscoder that `CrossCoder.save` or `save_pretrained` wrote, to measure it and to intervene with it.

    A crosscoder in several parts, or in one file that takes more than half of the main memory, stays in its files
    (`SlicedCrossCoder`); any other one is loaded (`CrossCoder.load`).

    Raises:
        CrosscoderError: a file is missing, damaged, or not a crosscoder of this format.

    Examples:
        >>> crosscoder = open_crosscoder("crosscoder.safetensors")  # doctest: +SKIP
    """
    path = expanded(path)
    path = path / WEIGHTS if path.is_dir() else path
    too_large = path.is_file() and path.stat().st_size > MEMORY_SHARE * main_memory()
    return SlicedCrossCoder(path) if is_sharded(path) or too_large else CrossCoder.load(path)
