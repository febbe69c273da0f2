"""Open a crosscoder for use: in memory where it fits, otherwise a slice of its features at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar, overload

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.dictionary import Dictionary
from crosstime.crosscoders.hub import WEIGHTS
from crosstime.crosscoders.sliced_crosscoder import SlicedCrossCoder
from crosstime.errors import CrosscoderError
from crosstime.machine.memory import main_memory
from crosstime.machine.part_names import is_sharded
from crosstime.suites.checkpoints import is_repository_id
from user_input.home import expanded

CrosscoderSource = CrossCoder | str | os.PathLike[str]
"""A crosscoder, or where it is: a file or folder in any format, the folder of a run, or a repository of the Hub."""
DictionarySource = Dictionary | str | os.PathLike[str]
"""Any dictionary in memory, or where a crosscoder is."""
AnyDictionary = TypeVar("AnyDictionary")

IN_RUN = "crosscoder.safetensors"
"""File of the crosscoder in the folder of a run."""

MEMORY_SHARE = 0.5
"""Share of the main memory that a crosscoder may take: models and activations need the rest."""


def open_crosscoder(path: str | Path) -> CrossCoder:
    """Open a crosscoder that `CrossCoder.save` or `save_pretrained` wrote, to measure it and to intervene with it.

    A crosscoder in several parts, or in one file that takes more than half of the main memory, stays in its files
    (`SlicedCrossCoder`); any other one is loaded (`CrossCoder.load`).

    Args:
        path: of the file, or of the folder that `save_pretrained` wrote.

    Returns:
        The crosscoder, in evaluation mode on the CPU.

    Raises:
        CrosscoderError: a file is missing, damaged, or not a crosscoder of this format.

    Examples:
        >>> crosscoder = open_crosscoder("crosscoder.safetensors")  # doctest: +SKIP
    """
    path = expanded(path)
    path = path / WEIGHTS if path.is_dir() else path
    too_large = path.is_file() and path.stat().st_size > MEMORY_SHARE * main_memory()
    return SlicedCrossCoder(path) if is_sharded(path) or too_large else CrossCoder.load(path)


def path_of(source: str | os.PathLike[str]) -> Path | None:
    """The path of a crosscoder: its own, or that in the folder of a run; None where there is nothing of this name."""
    path = expanded(os.fspath(source))
    if (path / IN_RUN).exists() or is_sharded(path / IN_RUN):
        return path / IN_RUN
    return path if path.exists() or is_sharded(path) else None


@overload
def as_crosscoder(source: str | os.PathLike[str]) -> CrossCoder: ...
@overload
def as_crosscoder(source: AnyDictionary) -> AnyDictionary: ...
def as_crosscoder(source: object) -> object:
    """The crosscoder itself, or the one at a path or in a repository; every function that takes one begins with this.

    Args:
        source: a crosscoder, or another dictionary, which is returned; a file or folder in any format that
            `crosstime.exchange` reads; the folder of a run; or, where there is no such path, a repository ``ORG/NAME``
            or ``ORG/NAME@REVISION`` of the Hub.

    Raises:
        CrosscoderError: there is none; the sentence names the place.

    Examples:
        >>> as_crosscoder("runs/demo").n_features  # doctest: +SKIP
        512
    """
    if not isinstance(source, str | os.PathLike):
        return source
    if (path := path_of(source)) is not None:
        from crosstime.crosscoders.exchange import detect, read

        return open_crosscoder(path) if detect(path) == "crosstime" else read(path)

    # A repository of the Hub
    repository, _, revision = os.fspath(source).partition("@")
    if isinstance(source, Path) or not is_repository_id(repository) or "/" not in repository:
        raise CrosscoderError(f"there is no crosscoder at {source}")
    return CrossCoder.from_pretrained(repository, revision=revision or None)
