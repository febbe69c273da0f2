"""Names of a file that is stored in several parts with an index. It needs no PyTorch."""

from __future__ import annotations

from pathlib import Path

INDEX = ".index.json"
"""Suffix that turns the name of a file into that of its index."""


def is_sharded(path: str | Path) -> bool:
    """Whether a file of this name is stored as several, with an index."""
    path = Path(path)
    return path.name.endswith(INDEX) or (not path.is_file() and index_of(path).is_file())


def index_of(path: str | Path) -> Path:
    """The index of a file that is stored as several; an index stands for itself.

    Examples:
        >>> str(index_of("crosscoder.safetensors"))
        'crosscoder.safetensors.index.json'
    """
    path = Path(path)
    return path if path.name.endswith(INDEX) else path.with_name(path.name + INDEX)


def whole_of(path: str | Path) -> Path:
    """The one file that stands for the same tensors as an index and its parts.

    Examples:
        >>> str(whole_of("crosscoder.safetensors.index.json"))
        'crosscoder.safetensors'
    """
    index = index_of(path)
    return index.with_name(index.name.removesuffix(INDEX))


def part_names(path: str | Path, generation: str, n_parts: int) -> list[str]:
    """Names of the files of all parts.

    Examples:
        >>> part_names("state.safetensors", "20", 2)[0]
        'state.safetensors.20-00001-of-00002.safetensors'
    """
    stem = whole_of(path).name
    return [f"{stem}.{generation}-{number + 1:05d}-of-{n_parts:05d}.safetensors" for number in range(n_parts)]
