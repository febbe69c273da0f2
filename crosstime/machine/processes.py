"""The processes that work together under ``torchrun``: who they are, how work is shared, how results are joined."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from crosstime.errors import ProcessError
from user_input.first_line import first_line

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """One of the processes that work together, as each of them sees itself.

    A process that is alone has nothing to wait for: every method gives back what it got.

    Attributes:
        rank: which this is, from 0.
        size: how many there are.

    Examples:
        >>> ALONE.share(["a", "b"]), Processes(rank=1, size=2).share(["a", "b", "c"])
        (['a', 'b'], ['c'])
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process' part of a list; the parts are in the order of the ranks and differ by one in length."""
        longer = len(items) % self.size
        start = self.rank * (len(items) // self.size) + min(self.rank, longer)
        return items[start : start + len(items) // self.size + (self.rank < longer)]

    def rows(self, batch: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "b ..."]:
        """This process' rows of a batch; as many as every other's where `size` divides the batch."""
        return batch[self.rank :: self.size]

    def mean_(self, *tensors: Shaped[Tensor, ...]) -> None:
        """Replace tensors by their means over all processes."""
        if self.size > 1:
            # All are on their way at once, so that the largest does not hold up the others.
            with self._others():
                for waiting in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                    waiting.wait()
            for tensor in tensors:
                tensor.div_(self.size)

    def largest(self, tensor: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """The largest number of all processes at each place; of truth values, whether any is true."""
        if self.size == 1:
            return tensor
        # Truth values are no numbers to the backends.
        found = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor.clone()
        with self._others():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.to(tensor.dtype)

    def gathered(self, part: Shaped[Tensor, "N ..."]) -> Shaped[Tensor, "M ..."]:
        """The parts of all processes one after the other; they may differ in their first axis."""
        if self.size == 1:
            return part
        lengths = [torch.zeros(1, dtype=torch.long, device=part.device) for _ in range(self.size)]
        with self._others():
            dist.all_gather(lengths, torch.tensor([len(part)], device=part.device))
        longest = int(max(lengths))
        # As bytes, since not every backend carries half precision.
        row = part.new_empty(1, *part.shape[1:]).nbytes
        padded = torch.zeros(longest, row, dtype=torch.uint8, device=part.device)
        padded[: len(part)] = part.contiguous().view(torch.uint8).reshape(len(part), row)
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        with self._others():
            dist.all_gather(parts, padded)
        joined = torch.cat([each[: int(length)] for each, length in zip(parts, lengths, strict=True)])
        return joined.reshape(-1).view(part.dtype).reshape(-1, *part.shape[1:])

    @contextmanager
    def _others(self) -> Iterator[None]:
        """Say in one sentence that another process is gone; what went wrong with it, it said itself."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ProcessError(
                f"process {self.rank} of {self.size} stops, for another one was killed or has failed "
                f"({first_line(error)[:150]}); what is finished is kept, and the same command goes on from there"
            ) from error


PATIENCE = timedelta(days=7)
"""How long processes wait for one another: the first does whole stages of a run while the others have nothing to do."""

ALONE = Processes()
"""The one process of a program that ``torchrun`` did not start."""


def joined(device: torch.device) -> Processes:
    """Join the processes that ``torchrun`` started, if it did; once joined, they stay so until the program ends.

    Tensors of the CPU go by gloo, those of a GPU by nccl.

    Raises:
        ProcessError: the processes cannot be joined.

    Examples:
        >>> joined(torch.device("cpu"))
        Processes(rank=0, size=1)
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and not (dist.is_available() and dist.is_initialized()):
        return ALONE
    if not dist.is_initialized():
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise ProcessError(f"The processes of torchrun cannot be joined: {first_line(error)}") from error
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), dist.get_world_size())


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process, where ``torchrun`` started one for each; otherwise `device` as it is."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
