"""The machine that a plan is made for: its memory, its disk, and its two measured rates."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from crosstime.machine.memory import device_memory, main_memory

_SIDE = 1024
"""Rows and columns of the matrices whose product is timed."""
_NUMBERS = 1 << 24
"""Numbers of the vectors whose sum is timed: more than any cache holds."""
_SECONDS = 0.25


@dataclass(frozen=True)
class Machine:
    """A machine, as far as a plan needs it.

    Attributes:
        device: cpu or cuda.
        name: a name for people.
        flops: floating-point operations per second of a large float32 matrix product.
        bandwidth: bytes per second that an operation on large tensors reads and writes.
        memory: bytes of main memory.
        device_memory: bytes of the GPU's memory; without a GPU, of main memory.
        disk: free bytes where runs are written.
    """

    device: str
    name: str
    flops: float
    bandwidth: float
    memory: int
    device_memory: int
    disk: int

    @classmethod
    def here(cls, device: torch.device, folder: Path) -> Machine:
        """This machine; its rates are measured in less than a second."""
        memory = main_memory()
        name = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
        existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
        disk = shutil.disk_usage(existing).free
        return cls(device.type, name, *_rates(device), memory, device_memory(device), disk)


def _rates(device: torch.device) -> tuple[float, float]:
    """Operations per second of a matrix product, and bytes per second of a sum."""
    a, b = (torch.ones(_SIDE, _SIDE, device=device) for _ in range(2))
    product = _shortest(lambda: torch.mm(a, b), device)
    x, y = (torch.ones(_NUMBERS, device=device) for _ in range(2))
    addition = _shortest(lambda: x.add_(y), device)
    return 2 * _SIDE**3 / product, 3 * x.nbytes / addition


def _shortest(work: Callable[[], object], device: torch.device) -> float:
    """The shortest of the times that some work takes: other load on the machine only makes it longer."""
    work()  # the first call pays for starting up
    _synchronize(device)
    shortest, until = math.inf, time.perf_counter() + _SECONDS
    while (started := time.perf_counter()) < until:
        work()
        _synchronize(device)
        shortest = min(shortest, time.perf_counter() - started)
    return shortest


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
