"""Time calls: interleaved runs and their medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

Calls = Mapping[str, Callable[[], object]]


def seconds(call: Callable[[], object]) -> float:
    """Return the wall time of one call, including its work on the GPU.

    Examples:
        >>> seconds(lambda: None) < 1
        True
    """
    _wait()
    start = time.perf_counter()
    call()
    _wait()
    return time.perf_counter() - start


def medians(calls: Calls, runs: int, *, warm: bool = True) -> dict[str, float]:
    """Return the median time of each call in seconds.

    The calls are interleaved (A B A B ...), so that a drift of the machine affects all of them equally.

    Args:
        calls: calls to time, by name.
        runs: number of timed runs of each call.
        warm: whether to run each call once before, without timing it.
    """
    if warm:
        for call in calls.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return {name: statistics.median(samples) for name, samples in times.items()}


def gemm_rate(device: torch.device, dtype: torch.dtype, size: int = 2048, runs: int = 5) -> float:
    """Return the rate of a square matrix product in FLOP/s, 2 size³ / median time: an upper bound for this machine."""
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / medians({"gemm": lambda: a @ b}, runs)["gemm"]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
