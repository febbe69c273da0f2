"""Checkpoints that stay open between passes over a suite, as far as memory allows.

Opening a checkpoint reads all of its weights and tries its parts, which takes longer than many forward passes. A
training that refills its buffer every few hundred steps would open every checkpoint each time.

1. *The budget.* Where `Compute.resident_gb` does not say how much memory open checkpoints may take, it is half of what
   is free on their device beyond what the caller reserves, divided by the number of processes on this machine if they
   share it. It is measured once, before the first checkpoint is opened.
2. *What stays.* All checkpoints take as much memory as the first. If all fit the budget, all stay. If not, as many stay
   as fit beside one more, which the others take by turn. The checkpoints that are opened first stay: a pass goes
   through all of them in the same order, so that any other choice, such as the most recent ones, would replace each one
   before it is needed again.
3. *The end.* `close` frees all of them; whoever makes the object closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

from crosstime.machine.memory import free_memory
from crosstime.machine.processes import processes_here
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Model

Result = TypeVar("Result")

_SHARE = 2
"""The part of the free memory that is left alone is one over this."""


class ResidentCheckpoints:
    """The checkpoints of a suite, of which as many as fit in memory stay open until `close`.

    Args:
        compute: where and how they run.
        suite: the checkpoints.
        reserved: bytes on the same device that the caller itself needs.

    Attributes:
        compute, suite: as given.
        openings: how many times a checkpoint was opened.

    Examples:
        >>> with ResidentCheckpoints(Compute(), suite) as checkpoints:  # doctest: +SKIP
        ...     widths = checkpoints.each(lambda index, model: model.d_model)
    """

    def __init__(self, compute: Compute, suite: Suite, *, reserved: int = 0) -> None:
        self.compute, self.suite = compute, suite
        self.openings = 0
        self._reserved = reserved
        self._budget: float | None = None
        self._open: dict[int, Model] = {}
        self._n_stay: int | None = None

    def __enter__(self) -> ResidentCheckpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory of all checkpoints; the next pass opens them again."""
        while self._open:
            self._open.popitem()[1].close()
        self._n_stay = None

    def each(self, work: Callable[[int, Model], Result], only: Sequence[int] | None = None) -> list[Result]:
        """Call `work` with every checkpoint, as `Compute.each` does, and keep those open that fit in memory.

        Args:
            work: called with the index of a checkpoint in the suite, and its model.
            only: indices of the checkpoints to run; None for all. The same ones should be run in every pass.

        Raises:
            SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.
            RemoteError: the server cannot be reached, or does not run a checkpoint.
        """
        indices = list(range(len(self.suite))) if only is None else list(only)
        if self.compute.hosted:
            # A server keeps models itself, and runs several at the same time
            checkpoints = self.suite.select([self.suite.revisions[index] for index in indices])
            return self.compute.each(checkpoints, lambda position, model: work(indices[position], model))

        self.compute.verify(self.suite)
        return [self._run(index, len(indices), work) for index in indices]

    def fits(self, count: int) -> bool:
        """Whether so many checkpoints can stay open; opens the first one, to measure it."""
        model = self._opened(0, count)
        if self._n_resident(model, count) >= count:
            return True
        if 0 not in self._open:
            model.close()
        self.close()
        return False

    def _run(self, index: int, count: int, work: Callable[[int, Model], Result]) -> Result:
        model = self._opened(index, count)
        try:
            return work(index, model)
        finally:
            if index not in self._open:
                model.close()

    def _opened(self, index: int, count: int) -> Model:
        """A checkpoint that is open; it stays so if it is among those that fit."""
        if index in self._open:
            return self._open[index]
        if self._budget is None:
            self._budget = self._measure_budget()
        model = self.compute.open(self.suite, self.suite.revisions[index])
        self.openings += 1
        if len(self._open) < self._n_resident(model, count):
            self._open[index] = model
        return model

    def _n_resident(self, model: Model, count: int) -> int:
        """How many of `count` checkpoints of a model's size stay open."""
        if self._n_stay is None:
            assert self._budget is not None
            self._n_stay = n_staying(self._budget, model_bytes(model), count)
        return self._n_stay

    def _measure_budget(self) -> float:
        if self.compute.resident_gb is not None:
            return self.compute.resident_gb * 1e9
        device = self.compute.torch_device
        n_sharing = 1 if device.type == "cuda" else processes_here()
        return max(0.0, free_memory(device) / n_sharing - self._reserved) / _SHARE


def n_staying(budget: float | int, n_bytes: float | int, count: int) -> int:
    """How many of `count` checkpoints of a size stay open within a budget: all, or those that fit beside one more.

    Examples:
        >>> n_staying(10, 2, 5), n_staying(9, 2, 5), n_staying(1, 2, 5)
        (5, 3, 0)
    """
    n_fitting = int(budget // max(1, n_bytes))
    return count if n_fitting >= count else max(0, n_fitting - 1)


def model_bytes(model: Model) -> int:
    """Bytes of a model's weights and buffers; weights that two modules share count once."""
    tensors = [*model.module.parameters(), *model.module.buffers()]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
