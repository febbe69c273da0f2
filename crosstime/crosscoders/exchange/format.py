"""What a format consists of, and what the formats of other tools share when a crosscoder is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.source import Overrides
from crosstime.errors import CrosscoderError
from crosstime.machine.storage import atomic_path, write_json
from crosstime.machine.tensors import write_tensors


@dataclass(frozen=True)
class Format:
    """One way to store a crosscoder in files.

    Attributes:
        name: by which users select it.
        description: its files and tensors, in one line.
        is_folder: whether it is written as a folder of its own.
        holds: whether an existing path is in this format.
        read, write: see `crosstime.crosscoders.exchange.read` and `write`; a format without `write` is read only.
    """

    name: str
    description: str
    is_folder: bool
    holds: Callable[[Path], bool]
    read: Callable[[Path, Overrides], CrossCoder]
    write: Callable[[CrossCoder, Path], None] | None


@dataclass(frozen=True)
class FilePair:
    """A format's two files in one folder: the weights, and a configuration in JSON.

    Attributes:
        weights: name of the file of weights; its suffix decides between safetensors and `torch.save`.
        configuration: name of the JSON file.

    Examples:
        >>> FilePair("cc_weights.pt", "cfg.json").locate(Path("version_0/cc_weights.pt"))[1]
        PosixPath('version_0/cfg.json')
    """

    weights: str
    configuration: str

    def locate(self, path: Path) -> tuple[Path, Path]:
        """Both files, given one of them or their folder."""
        folder = path if path.is_dir() else path.parent
        return folder / self.weights, folder / self.configuration

    def holds(self, path: Path) -> bool:
        """Whether a path is the folder of both files, or the file of weights next to its configuration."""
        is_named = path.is_dir() or path.name == self.weights
        return is_named and all(file.is_file() for file in self.locate(path))

    def write(
        self,
        folder: Path,
        tensors: Mapping[str, Tensor],
        config: Mapping[str, Any],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write both files into a new folder, atomically.

        Args:
            folder: to create.
            tensors: the weights.
            config: the configuration.
            metadata: strings to store with the weights, in a safetensors file.
        """
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            if self.weights.endswith(".safetensors"):
                write_tensors(temporary / self.weights, tensors, metadata)
            else:
                torch.save(dict(tensors), temporary / self.weights)
            write_json(temporary / self.configuration, config)


def refuse_folded(crosscoder: CrossCoder, format_name: str) -> None:
    """Refuse a folded crosscoder whose active features depend on norms that only our own format stores.

    Raises:
        CrosscoderError: the crosscoder was folded, and its activation function selects by norms.
    """
    if crosscoder.norms_before_folding is not None and crosscoder.activation.name != "relu":
        raise CrosscoderError(
            f"the format {format_name} has no place for the decoder norms of before folding, by which "
            f"{crosscoder.activation.name} selects: write the crosscoder as it was before fold()"
        )


def jsonable(training: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a training in the types of JSON; other values become their text.

    Examples:
        >>> jsonable({"betas": (0.9, 0.999)})
        {'betas': [0.9, 0.999]}
    """
    return json.loads(json.dumps(training, default=str))
