"""The file of a crosscoder: its tensors as safetensors, and the rest of the module as metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Shaped
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, activation_named, refuse_shared
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.part_names import is_sharded
from crosstime.machine.processes import ALONE, Processes
from crosstime.machine.sharded_tensors import ShardedTensors, write_sharded_tensors
from crosstime.machine.tensors import (
    REAL,
    check_finite,
    check_names,
    check_tensor,
    digest_of,
    read_tensors,
    write_tensors,
)
from user_input.parse_json import parse_json
from user_input.reason import reason

FORMAT = "crosstime-crosscoder-1"
FEATURE_AXES = {
    "W_dec": 0,
    "W_enc": 2,
    "b_enc": 0,
    "norms_before_folding": 1,
    "activation.log_threshold": 0,
}
"""The axis of the features in each tensor of a crosscoder's state dict that has one; the others belong to all."""


@dataclass(frozen=True, eq=False)
class CrosscoderFile:
    """Everything that `CrossCoder` is rebuilt from.

    Attributes:
        origin: checkpoints, site and width.
        activation: an activation function of the right kind and size; its tensors are among `tensors`.
        n_shared: number of features with one direction for all checkpoints.
        tensors: the state dict of the module.
    """

    origin: Origin
    activation: Activation
    n_shared: int
    tensors: Mapping[str, Shaped[Tensor, ...]]

    @property
    def n_features(self) -> int:
        """F."""
        return self.tensors["W_dec"].shape[0]

    def write(self, path: str | Path, shards: Processes = ALONE) -> None:
        """Write the file atomically; a shard writes its part of the tensors, together with the other shards.

        Raises:
            RunError: it cannot be written.
        """
        metadata = {
            "format": FORMAT,
            "activation": self.activation.name,
            "settings": json.dumps(self.activation.settings()),
            "n_shared": str(self.n_shared),
            "origin": json.dumps(self.origin.to_json()),
        }
        if shards.size == 1:
            write_tensors(path, self.tensors, metadata | {"sha256": digest_of(self.tensors)})
            return
        # The index has a checksum of every file
        axes = {name: axis for name, axis in FEATURE_AXES.items() if name in self.tensors}
        generation = f"{self.n_features * shards.size}"
        write_sharded_tensors(path, self.tensors, axes, metadata, generation=generation, processes=shards)

    @classmethod
    def read(cls, path: str | Path) -> CrosscoderFile:
        """Read a file and check it, so that what it says and what it holds agree.

        Raises:
            CrosscoderError: the file is missing, damaged, or not a crosscoder of this format.
        """
        try:
            if is_sharded(path):
                sharded = ShardedTensors.open(path)
                tensors, metadata = sharded.read(), sharded.metadata
            else:
                tensors, metadata = read_tensors(path)
        except RunError as error:
            raise CrosscoderError(f"cannot load a crosscoder: {error}") from error
        return cls.checked(path, tensors, metadata)

    @classmethod
    def checked(
        cls, path: str | Path, tensors: dict[str, Shaped[Tensor, ...]], metadata: Mapping[str, str]
    ) -> CrosscoderFile:
        """What was read from a file, after making sure that what it says and what it holds agree.

        Raises:
            CrosscoderError: they do not, or it is not a crosscoder of this format.
        """
        refuse_other_format(path, metadata)
        try:
            return cls._checked(tensors, metadata)
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            damage = f"it has no {error}" if isinstance(error, KeyError) else reason(error)
            raise CrosscoderError(f"{path} is not a valid crosscoder file: {damage}") from error

    @classmethod
    def _checked(cls, tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> CrosscoderFile:
        # Files of earlier versions have no checksum
        if "sha256" in metadata and metadata["sha256"] != digest_of(tensors):
            raise ValueError("its tensors are not those that were written: their checksum differs")
        origin = Origin.from_json(parse_json(metadata["origin"]))
        n_checkpoints, d_model = len(origin.revisions), origin.d_model

        # Compare the weights with the origin, before anything of the size that the file claims is allocated
        n_features = check_tensor("W_dec", tensors.get("W_dec"), (None, None, None)).shape[0]
        shapes: dict[str, tuple[int, ...]] = {
            "W_dec": (n_features, n_checkpoints, d_model),
            "W_enc": (n_checkpoints, d_model, n_features),
            "b_enc": (n_features,),
            "b_dec": (n_checkpoints, d_model),
            "scales": (n_checkpoints,),
        }
        for name, shape in shapes.items():
            check_tensor(name, tensors.get(name), shape, REAL)

        # Rebuild the activation function, and check its tensors too
        settings = parse_json(metadata.get("settings", "{}"))
        if not isinstance(settings, dict):
            raise TypeError("the settings of its activation function are not an object")
        activation = activation_named(metadata["activation"], n_features, settings)
        shapes |= {f"activation.{name}": tuple(tensor.shape) for name, tensor in activation.state_dict().items()}
        if "norms_before_folding" in tensors:
            shapes["norms_before_folding"] = (n_checkpoints, n_features)
        check_names(tensors, shapes)
        for name, shape in shapes.items():
            check_tensor(name, tensors[name], shape, REAL)
        _check_numbers(tensors)

        # The shared features must exist
        n_shared = int(metadata.get("n_shared", "0"))
        if n_checkpoints < 1 or n_features < 1 or not 0 <= n_shared <= n_features:
            raise ValueError(f"it has {n_checkpoints} checkpoints, {n_features} features and {n_shared} shared ones")
        refuse_shared(activation, n_shared)
        return cls(origin, activation, n_shared, tensors)


def refuse_other_format(path: str | Path, metadata: Mapping[str, str]) -> None:
    """Refuse a file that is not a crosscoder, by the format that it states.

    Raises:
        CrosscoderError: the sentence says how crosscoders of other tools are read.
    """
    if metadata.get("format") != FORMAT:
        raise CrosscoderError(
            f"{path} is not a crosscoder file: its format is {metadata.get('format')!r}, not {FORMAT!r}; "
            "ct.exchange.read and crosstime convert read the formats of other tools."
        )


def _check_numbers(tensors: Mapping[str, Tensor]) -> None:
    """Refuse numbers that no crosscoder has: NaN, infinite weights, scales and thresholds that are negative."""
    for name, tensor in tensors.items():
        # The logarithm of a threshold of zero is minus infinity, and one of infinity switches a feature off
        check_finite(name, tensor.exp().clamp_max(1) if name == "activation.log_threshold" else tensor)
    if not (tensors["scales"] > 0).all():
        raise ValueError("its scales are not all positive")
    if "activation.threshold" in tensors and (tensors["activation.threshold"] < 0).any():
        raise ValueError("its threshold is negative, as before it is estimated in training")
