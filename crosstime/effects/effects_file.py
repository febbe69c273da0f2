"""A file with the indirect effects of one task at every checkpoint, in the safetensors format."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from crosstime.errors import RunError
from crosstime.machine.tensors import REAL, WHOLE, check_tensor, read_tensors, write_tensors
from interventions import Aggregation, Effects
from interventions.option_names import METHODS
from user_input.nearest import nearest
from user_input.parse_json import parse_json
from user_input.reason import reason

MOST_FEATURES = 1 << 26
"""Upper bound on F read from a file, so that a corrupt header cannot make a sum over features allocate gigabytes."""

_INDICES = ("prompt", "position", "feature", "lengths")
_NUMBERS = ("value", "error", "clean", "baseline")
_OF_ENTRIES = ("prompt", "position", "feature", "value")
"""Tensors with one number for each entry; all others have one for each prompt."""


def write_effects(path: str | os.PathLike[str], effects: Sequence[Effects]) -> None:
    """Write the indirect effects of all checkpoints, entry for entry.

    Args:
        path: of the file.
        effects: at each checkpoint, as `interventions.indirect_effects` returns them.

    Examples:
        >>> write_effects("effects.safetensors", attribution.effects)  # doctest: +SKIP
    """
    tensors: dict[str, Tensor] = {}
    for c, checkpoint_effects in enumerate(effects):
        for name in _INDICES + _NUMBERS:
            tensor = getattr(checkpoint_effects, name)
            if tensor is not None:
                # 32 bits hold every index and halve the file.
                tensors[f"{c}.{name}"] = tensor.to(torch.int32) if name in _INDICES else tensor
    header = {
        "checkpoints": str(len(effects)),
        "n_features": str(effects[0].n_features),
        "method": effects[0].method,
        "aggregation": json.dumps(asdict(effects[0].aggregation)),
    }
    write_tensors(path, tensors, header)


def read_effects(path: str | os.PathLike[str]) -> tuple[Effects, ...]:
    """Read a file of `write_effects`.

    Raises:
        RunError: the file is missing, damaged, or holds something else.
    """
    tensors, header = read_tensors(path)
    try:
        n_checkpoints, n_features = int(header["checkpoints"]), int(header["n_features"])
        if n_checkpoints < 1:
            raise ValueError("it is of no checkpoint")
        if not 1 <= n_features <= MOST_FEATURES:
            raise ValueError(f"it is of {n_features} features, not of 1 to {MOST_FEATURES:,}")
        method = header["method"]
        if method not in METHODS:
            raise ValueError(f"{method!r} is no method: {nearest(method, METHODS)}")
        aggregation = _aggregation(header)
        return tuple(_effects_at(tensors, c, n_features, method, aggregation) for c in range(n_checkpoints))
    except KeyError as error:
        raise RunError(f"{path} does not hold indirect effects: it has no {error}") from error
    except ValueError as error:
        raise RunError(f"{path} does not hold indirect effects: {reason(error)}") from error


def _aggregation(header: Mapping[str, str]) -> Aggregation:
    """The aggregation that a file names; files of before have none and are summed over positions.

    Raises:
        ValueError: it is none.
    """
    options = parse_json(header["aggregation"]) if "aggregation" in header else {}
    types = {"name": str, "threshold": int | float, "batch_size": int, "columns": int}
    if not isinstance(options, dict) or not options.keys() <= types.keys():
        raise ValueError("its aggregation is not one")
    if any(not isinstance(value, types[key]) or isinstance(value, bool) for key, value in options.items()):
        raise ValueError("its aggregation is not one")
    return Aggregation(**options)


def _effects_at(
    tensors: Mapping[str, Tensor], checkpoint_index: int, n_features: int, method: str, aggregation: Aggregation
) -> Effects:
    """The effects of one checkpoint, after checking that no entry is of a prompt or feature out of range."""
    prefix = f"{checkpoint_index}."
    n_prompts, n_entries = tensors[prefix + "clean"].numel(), tensors[prefix + "value"].numel()

    def numbers(name: str, dtypes: tuple[torch.dtype, ...] = REAL) -> Tensor:
        size = n_entries if name in _OF_ENTRIES else n_prompts
        return check_tensor(name, tensors[prefix + name], (size,), dtypes)

    def indices(name: str, below: int = 1 << 31) -> Tensor:
        tensor = numbers(name, WHOLE).long()
        if len(tensor) and not 0 <= int(tensor.min()) <= int(tensor.max()) < below:
            raise ValueError(f"there is no {name} {int(tensor.max())} or {int(tensor.min())}")
        return tensor

    return Effects(
        prompt=indices("prompt", below=n_prompts),
        position=indices("position") if prefix + "position" in tensors else None,
        feature=indices("feature", below=n_features),
        value=numbers("value"),
        error=numbers("error"),
        clean=numbers("clean"),
        baseline=numbers("baseline"),
        lengths=indices("lengths"),
        n_features=n_features,
        method=method,
        aggregation=aggregation,
    )
