"""Measure the peak memory of a call in a fresh process, above what is allocated before it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import seconds

MEASUREMENT = "peak above what is resident before the call, in a fresh process for each way"
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Settings with which glibc returns freed tensors immediately, so that resident memory is what is in use."""
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Footprint:
    """Memory and time of one call in a fresh process.

    Attributes:
        before: resident bytes before the call, after the set-up and the warm-up.
        extra: bytes at the peak of the call, above `before`.
        seconds: wall time of the call.
        value: return value of the call.
    """

    before: int
    extra: int
    seconds: float
    value: Any


def footprint(prepare: Callable[..., tuple[Callable[[], Any], Callable[[], Any]]], *arguments: Any) -> Footprint:
    """Run ``prepare(*arguments)`` in a fresh process and measure the call that it returns.

    On a GPU, the peak is `torch.cuda.max_memory_allocated`; on Linux, the high-water mark of resident memory that the
    kernel maintains, reset just before the call; elsewhere, a thread samples the resident memory.

    Args:
        prepare: a function at the top level of a module, which does the set-up and returns two calls: one that warms
            up caches with less work, and the one to measure, whose value is sent back.
        arguments: arguments of `prepare`, which are sent to the process.
    """
    return footprints(prepare, [arguments])[0]


def footprints(
    prepare: Callable[..., tuple[Callable[[], Any], Callable[[], Any]]], groups: Sequence[tuple[Any, ...]]
) -> list[Footprint]:
    """Do what `footprint` does in several processes at the same time, for calls that communicate with each other.

    Args:
        prepare: see `footprint`.
        groups: for each process, the arguments of `prepare`.
    """
    processes = ProcessPoolExecutor(len(groups), multiprocessing.get_context("spawn"))
    with _environment(_ALLOCATOR), processes:
        return [running.result() for running in [processes.submit(_measure, prepare, group) for group in groups]]


def _measure(prepare: Callable[..., tuple[Callable[[], Any], Callable[[], Any]]], arguments: tuple) -> Footprint:
    warm_up, call = prepare(*arguments)
    warm_up()
    gc.collect()
    value: list[Any] = []
    before, peak, duration = _peak_during(lambda: value.append(call()))
    return Footprint(before, peak - before, duration, value[0])


def _peak_during(call: Callable[[], object]) -> tuple[int, int, float]:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        duration = seconds(call)
        return before, torch.cuda.max_memory_allocated(), duration
    if _RESET.exists():
        before = _status("VmRSS")
        _RESET.write_text("5")
        duration = seconds(call)
        return before, _status("VmHWM"), duration
    return _sampled(call)


def _status(name: str) -> int:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _sampled(call: Callable[[], object]) -> tuple[int, int, float]:
    import psutil

    process, finished = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    peak = [before]

    def watch() -> None:
        while not finished.wait(0.001):
            peak.append(max(peak.pop(), process.memory_info().rss))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        duration = seconds(call)
    finally:
        finished.set()
        watcher.join()
    return before, peak[0], duration


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    previous = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
