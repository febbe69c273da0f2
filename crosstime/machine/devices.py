"""The devices of this machine."""

from __future__ import annotations

import torch

from crosstime.errors import CrosstimeError


def has_gpu() -> bool:
    """Whether PyTorch sees a GPU of Nvidia or AMD."""
    return torch.cuda.is_available()


def refuse_missing(name: str) -> None:
    """Refuse a device that this machine does not have, before anything is loaded for it.

    Raises:
        CrosstimeError: says what this machine has instead.
    """
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if has_gpu() else 0
        if count == 0:
            built = "" if torch.version.cuda else "; this PyTorch is built for the CPU alone"
            raise CrosstimeError(f"device {name!r} is not there: PyTorch sees no GPU{built}; use cpu.")
        if device.index is not None and device.index >= count:
            raise CrosstimeError(f"device {name!r} is not there: this machine has cuda:0 to cuda:{count - 1}.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise CrosstimeError("device 'mps' is not there: this machine has no Apple GPU; use cpu.")
