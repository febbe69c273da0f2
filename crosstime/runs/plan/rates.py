"""What this machine has: memory, disk, and how fast it computes."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

_SIDE = 1024
_NUMBERS = 1 << 24
_SMALL = 500
_SECONDS = 0.25


@dataclass(frozen=True)
class Machine:
    """A machine as far as a plan needs it.

    Attributes:
        device: cpu or cuda.
        name: for people.
        flops: float32 operations a second, of large matrix products.
        bandwidth: bytes that an operation on large tensors reads and writes in a second.
        call: seconds that a call of an operation takes, however small its tensors are.
        memory: bytes of main memory.
        device_memory: bytes of the GPU; of main memory where there is none.
        disk: bytes that are free where runs go.
    """

    device: str
    name: str
    flops: float
    bandwidth: float
    call: float
    memory: int
    device_memory: int
    disk: int

    @classmethod
    def here(cls, device: torch.device, folder: Path) -> Machine:
        """This machine; its speed is measured in less than a second."""
        memory = _memory()
        if device.type == "cuda":
            found = torch.cuda.get_device_properties(device)
            name, device_memory = found.name, found.total_memory
        else:
            name, device_memory = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads", memory
        place = next(each for each in (folder.resolve(), *folder.resolve().parents) if each.exists())
        return cls(device.type, name, *_speeds(device), memory, device_memory, shutil.disk_usage(place).free)


def _speeds(device: torch.device) -> tuple[float, float, float]:
    """Operations a second, bytes a second, and seconds a call."""
    a, b = (torch.ones(_SIDE, _SIDE, device=device) for _ in range(2))
    product = _shortest(lambda: torch.mm(a, b), device)
    x, y = (torch.ones(_NUMBERS, device=device) for _ in range(2))
    sum_ = _shortest(lambda: x.add_(y), device)
    small = torch.ones(2, 8, device=device)

    def calls() -> None:
        for _ in range(_SMALL):
            _ = small + small

    return 2 * _SIDE**3 / product, 3 * x.nbytes / sum_, _shortest(calls, device) / _SMALL


def _shortest(work: Callable[[], object], device: torch.device) -> float:
    """The shortest time that some work took in a quarter of a second: what else runs here only makes it longer."""
    work()  # the first time pays for starting up
    _wait(device)
    shortest, until = math.inf, time.perf_counter() + _SECONDS
    while (started := time.perf_counter()) < until:
        work()
        _wait(device)
        shortest = min(shortest, time.perf_counter() - started)
    return shortest


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory() -> int:
    """Main memory that this process may use: the machine's, or its container's where that is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            return min(whole, int(path.read_text()))
        except (OSError, ValueError):
            continue
    return whole
