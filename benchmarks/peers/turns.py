"""The other tool's side of a comparison: it takes a step of its own training loop on request.

This module runs in the environment of the tool, without crosstime: it needs the standard library and torch only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import torch

STEP, PRODUCTS = "step", "products"


class Turns(Iterator[Any]):
    """An endless data source for a training loop, which provides a batch only when a step is requested.

    A loop asks for the next batch when a step is finished, so the time between two batches is one complete iteration:
    forward, loss, backward, clipping, optimiser, schedules. Requests are lines on standard input. Answers are lines of
    JSON on the original standard output, to which the tool itself can no longer write.

    Args:
        batch: the batch of every step.
        products: the call that is timed when bare products are requested.
        package: name of the tool's package, whose version is sent first.
        first: a batch that the loop requests before the first step, if it inspects one in advance.
    """

    def __init__(self, batch: Any, products: Callable[[], object], package: str, first: Any = None) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._batch, self._products, self._first = batch, products, first
        self._started: float | None = None
        self._answer({"version": version(package), "torch": torch.__version__, "threads": torch.get_num_threads()})

    def __next__(self) -> Any:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._started is not None:
            self._answer({"seconds": time.perf_counter() - self._started})
        for command in iter(sys.stdin.readline, ""):
            self._started = time.perf_counter()
            if command.strip() == STEP:
                return self._batch
            self._products()
            self._answer({"seconds": time.perf_counter() - self._started})
        raise SystemExit

    def _answer(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)


def activations(batch: int, checkpoints: int, width: int) -> torch.Tensor:
    """Return the same batch ``B C D`` as `benchmarks.cases.training.activations`."""
    return torch.randn(batch, checkpoints, width, generator=torch.Generator().manual_seed(0))


def products(batch: int, inner: int, features: int, dtype: torch.dtype) -> Callable[[], object]:
    """Return a call with the FLOPs of the five products of a step: one product, five times, into the same memory."""
    x, weights = torch.ones(batch, inner, dtype=dtype), torch.ones(inner, features, dtype=dtype)
    out = torch.empty(batch, features, dtype=dtype)

    def call() -> None:
        for _ in range(5):
            torch.mm(x, weights, out=out)

    return call
