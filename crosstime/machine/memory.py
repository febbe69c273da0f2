"""Memory of this machine: how much there is, and numbers of bytes for people."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def main_memory() -> int:
    """Bytes of main memory that this process may use: the machine's, or its container's if that is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            return min(whole, int(path.read_text()))
        except (OSError, ValueError):
            continue
    return whole


def device_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory; of main memory for other devices."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else main_memory()


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory that are free; for other devices those of main memory, with what caches can give back."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = main_memory()
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = min(free, int(facts["MemAvailable"].split()[0]) * 1024)
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        return max(0, min(free, limit - used))
    except (OSError, ValueError, KeyError):
        # No Linux, or no limit
        return free


def in_bytes(count: int | float) -> str:
    """A number of bytes for people.

    Examples:
        >>> in_bytes(2.5e9)
        '2.5 GB'
    """
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
