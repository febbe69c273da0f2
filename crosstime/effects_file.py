"""Indirect effects of one task at every checkpoint, as a safetensors file."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from crosstime.errors import RunError
from crosstime.storage import read_tensors, write_tensors
from interventions import Effects

_PLACES = ("prompt", "position", "feature", "lengths")
_NUMBERS = ("value", "error", "clean", "baseline")


def write_effects(path: str | os.PathLike[str], effects: Sequence[Effects]) -> None:
    """Write what `interventions.indirect_effects` gave at each checkpoint, entry for entry.

    Examples:
        >>> write_effects("effects.safetensors", attribution.effects)  # doctest: +SKIP
    """
    tensors = {}
    for c, each in enumerate(effects):
        for name in _PLACES + _NUMBERS:
            tensor = getattr(each, name)
            if tensor is not None:
                # Indices take half the room of what PyTorch counts with.
                tensors[f"{c}.{name}"] = tensor.to(torch.int32) if name in _PLACES else tensor
    facts = {
        "checkpoints": str(len(effects)), "n_features": str(effects[0].n_features), "method": effects[0].method
    }  # fmt: skip
    write_tensors(path, tensors, facts)


def read_effects(path: str | os.PathLike[str]) -> tuple[Effects, ...]:
    """Read what `write_effects` wrote.

    Raises:
        RunError: the file is missing, damaged, or holds something else.
    """
    tensors, facts = read_tensors(path)
    try:
        return tuple(
            Effects(
                **{name: _indices(tensors.get(f"{c}.{name}")) for name in ("position",)},
                **{name: tensors[f"{c}.{name}"].long() for name in _PLACES if name != "position"},
                **{name: tensors[f"{c}.{name}"] for name in _NUMBERS},
                n_features=int(facts["n_features"]),
                method=facts["method"],
            )
            for c in range(int(facts["checkpoints"]))
        )
    except (KeyError, ValueError) as error:
        raise RunError(f"{path} does not hold indirect effects: {error} is missing or no number") from error


def _indices(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.long()
