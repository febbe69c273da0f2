"""Indirect effects of one task at every checkpoint, as a safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch

from crosstime.errors import RunError
from crosstime.machine.tensors import read_tensors, write_tensors
from interventions import Effects
from interventions.estimator import METHODS
from user_input.first_line import first_line
from user_input.nearest import nearest

_PLACES = ("prompt", "position", "feature", "lengths")
_NUMBERS = ("value", "error", "clean", "baseline")
MOST_FEATURES = 1 << 26
"""Every sum over features takes as many numbers as a file says that there are, so what it says has a limit."""
_ENTRIES = ("prompt", "position", "feature", "value")
"""Which of both have a row an entry; the others have one a prompt."""
_WHOLE = (torch.int32, torch.int64)
_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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
        found = tuple(_checkpoint(tensors, facts, c) for c in range(int(facts["checkpoints"])))
        if not found:
            raise ValueError("it is of no checkpoint")
    except KeyError as error:
        raise RunError(f"{path} does not hold indirect effects: it has no {error}") from error
    except ValueError as error:
        raise RunError(f"{path} does not hold indirect effects: {first_line(error)}") from error
    return found


def _checkpoint(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, str], c: int) -> Effects:
    """One checkpoint's effects, after making sure that every entry names a prompt and a feature that there are."""
    places = {name: tensors[f"{c}.{name}"] for name in _PLACES if name != "position" or f"{c}.{name}" in tensors}
    numbers = {name: tensors[f"{c}.{name}"] for name in _NUMBERS}
    n_prompts, n_entries = numbers["clean"].numel(), numbers["value"].numel()
    sizes = {name: n_entries if name in _ENTRIES else n_prompts for name in (*places, *numbers)}
    for name, tensor in (places | numbers).items():
        if tuple(tensor.shape) != (sizes[name],):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not ({sizes[name]},)")
        if tensor.dtype not in (_WHOLE if name in places else _REAL):
            raise ValueError(f"{name} is in {tensor.dtype}")
    n_features, method = int(facts["n_features"]), facts["method"]
    if not 1 <= n_features <= MOST_FEATURES:
        raise ValueError(f"it is of {n_features} features, not of 1 to {MOST_FEATURES:,}")
    if method not in METHODS:
        raise ValueError(f"{method!r} is no method: {nearest(method, METHODS)}")
    most = {"prompt": n_prompts, "feature": n_features}
    places = {name: tensor.long() for name, tensor in places.items()}
    for name, tensor in places.items():
        if len(tensor) and not 0 <= int(tensor.min()) <= int(tensor.max()) < most.get(name, 1 << 31):
            raise ValueError(f"there is no {name} {int(tensor.max())} or {int(tensor.min())}")
    return Effects(**{"position": None} | places, **numbers, n_features=n_features, method=method)
