"""Seconds that a call takes: interleaved runs, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

Ways = Mapping[str, Callable[[], object]]


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call, until the GPU is done with it.

    Examples:
        >>> seconds(lambda: None) < 1
        True
    """
    _wait()
    start = time.perf_counter()
    call()
    _wait()
    return time.perf_counter() - start


def medians(ways: Ways, runs: int, *, warm: bool = True) -> dict[str, float]:
    """Median seconds of each way, run in turn (A B A B ...), so that a drift of the machine hits all alike.

    Args:
        ways: what to time, by name.
        runs: how often each is timed.
        warm: run each once before, untimed.
    """
    if warm:
        for call in ways.values():
            call()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, call in ways.items():
            taken[name].append(seconds(call))
    return {name: statistics.median(times) for name, times in taken.items()}


def gemm_rate(device: torch.device, dtype: torch.dtype, size: int = 2048, runs: int = 5) -> float:
    """Operations a second of a square matrix product: the most that this machine gives.

    Returns:
        2 size³ / median seconds, in FLOP/s.
    """
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / medians({"gemm": lambda: a @ b}, runs)["gemm"]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
