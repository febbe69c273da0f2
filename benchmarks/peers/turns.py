"""A peer's side of a comparison: it takes a step of its own training loop whenever it is told to.

Runs in the peer's environment, where crosstime is not installed: the standard library and torch only.
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
    """The data of a peer's own training loop: a batch without end, handed out only when a step is asked for.

    A loop asks for the next batch when a step is done, so what passes between two batches is one whole turn of it:
    forward, loss, backward, clipping, optimiser, schedules. Commands are lines on standard input; answers are lines of
    JSON on what was standard output, on which the peer itself can no longer write.

    Args:
        batch: what the loop gets, every time.
        products: a call to time when bare products are asked for.
        package: the peer's, whose version is told first.
        first: what the loop gets before the first step, if it looks at a batch in advance.
    """

    def __init__(self, batch: Any, products: Callable[[], object], package: str, first: Any = None) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._batch, self._products, self._first = batch, products, first
        self._began: float | None = None
        self._say({"version": version(package), "torch": torch.__version__, "threads": torch.get_num_threads()})

    def __next__(self) -> Any:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._began is not None:
            self._say({"seconds": time.perf_counter() - self._began})
        for command in iter(sys.stdin.readline, ""):
            self._began = time.perf_counter()
            if command.strip() == STEP:
                return self._batch
            self._products()
            self._say({"seconds": time.perf_counter() - self._began})
        raise SystemExit

    def _say(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)


def activations(batch: int, checkpoints: int, width: int) -> torch.Tensor:
    """A batch ``B C D``: the same numbers as `benchmarks.cases.training.activations`."""
    return torch.randn(batch, checkpoints, width, generator=torch.Generator().manual_seed(0))


def products(batch: int, inner: int, features: int, dtype: torch.dtype) -> Callable[[], object]:
    """As many operations as the five products of a step, in one product done five times into one place."""
    x, weights = torch.ones(batch, inner, dtype=dtype), torch.ones(inner, features, dtype=dtype)
    out = torch.empty(batch, features, dtype=dtype)

    def call() -> None:
        for _ in range(5):
            torch.mm(x, weights, out=out)

    return call
