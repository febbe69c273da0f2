"""The processes that ``torchrun`` starts for one program: ranks, shares of work, and collective operations."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from crosstime.errors import ProcessError
from crosstime.machine.resource_errors import RESUMABLE
from user_input.reason import reason

Item = TypeVar("Item")

TIMEOUT = timedelta(days=7)
"""How long a process waits for the others: the first does whole stages of a run while the others are idle."""


@dataclass(frozen=True)
class Processes:
    """The group of processes that work together, seen from one of them.

    In a group of one, nothing is communicated and every method returns its argument.

    Attributes:
        rank: index of this process, from 0.
        size: number of processes.
        group: the processes of torch.distributed that communicate; None for all of them.

    Examples:
        >>> ALONE.share(["a", "b"]), Processes(rank=1, size=2).share(["a", "b", "c"])
        (['a', 'b'], ['c'])
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = field(default=None, repr=False, compare=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Processes:
        # A process group cannot be copied, and needs not be: nothing in it changes
        return self

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's contiguous share of a list; the lengths of all shares differ by at most one."""
        remainder = len(items) % self.size
        start = self.rank * (len(items) // self.size) + min(self.rank, remainder)
        return items[start : start + len(items) // self.size + (self.rank < remainder)]

    def rows(self, batch: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "b ..."]:
        """This process's rows of a batch; each process has the same number if `size` divides B."""
        return batch[self.rank :: self.size]

    def mean_(self, *tensors: Shaped[Tensor, ...]) -> None:
        """Replace each tensor by its mean over all processes, in place."""
        if self.size == 1:
            return
        # All reductions are started before the first is waited for, so that a large tensor does not delay the others
        with self._explain_lost_process():
            for operation in [dist.all_reduce(tensor, group=self.group, async_op=True) for tensor in tensors]:
                operation.wait()
        for tensor in tensors:
            tensor.div_(self.size)

    def total(self, partial: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """Sum of the partial results of all processes, through which a gradient flows back to this process's part.

        Every process computes the same loss from the sum, so that the gradient of the sum is already the gradient of
        each part, and the backward pass communicates nothing.
        """
        if self.size == 1:
            return partial
        return cast(Tensor, _Total.apply(partial, self))

    def maximum(self, tensor: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """Elementwise maximum over all processes; of booleans, whether any is true."""
        if self.size == 1:
            return tensor
        # The backends do not reduce booleans
        reduced = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor.clone()
        with self._explain_lost_process():
            dist.all_reduce(reduced, dist.ReduceOp.MAX, group=self.group)
        return reduced.to(tensor.dtype)

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
        self.maximum(torch.zeros(1))

    def all_gather(self, shard: Shaped[Tensor, "N ..."]) -> Shaped[Tensor, "M ..."]:
        """The shards of all processes, concatenated in the order of the ranks; their first axes may differ in size."""
        if self.size == 1:
            return shard

        # Tell each other the lengths, so that all shards can be padded to the longest
        lengths = [torch.zeros(1, dtype=torch.long, device=shard.device) for _ in range(self.size)]
        with self._explain_lost_process():
            dist.all_gather(lengths, torch.tensor([len(shard)], device=shard.device), group=self.group)
        longest = int(max(lengths))

        # Send bytes, since not every backend supports half precision
        row_bytes = shard.new_empty(1, *shard.shape[1:]).nbytes
        padded = torch.zeros(longest, row_bytes, dtype=torch.uint8, device=shard.device)
        padded[: len(shard)] = shard.contiguous().view(torch.uint8).reshape(len(shard), row_bytes)
        shards = [torch.empty_like(padded) for _ in range(self.size)]
        with self._explain_lost_process():
            dist.all_gather(shards, padded, group=self.group)

        # Drop the padding and restore dtype and shape
        joined = torch.cat([received[: int(length)] for received, length in zip(shards, lengths, strict=True)])
        return joined.reshape(-1).view(shard.dtype).reshape(-1, *shard.shape[1:])

    def gather(self, value: object) -> list[Any]:
        """Plain values of all processes, in the order of the ranks; they travel as JSON.

        Examples:
            >>> ALONE.gather({"file": "a"})
            [{'file': 'a'}]
        """
        if self.size == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode() + b"\n"), dtype=torch.uint8)
        return [json.loads(line) for line in bytes(self.all_gather(own).tolist()).splitlines()]

    def sum_(self, tensor: Shaped[Tensor, ...]) -> None:
        """Replace a tensor by its sum over all processes, in place."""
        if self.size > 1:
            with self._explain_lost_process():
                dist.all_reduce(tensor, group=self.group)

    def broadcast_(self, tensor: Shaped[Tensor, ...], source: int) -> None:
        """Replace a contiguous tensor by that of one process, in place.

        Args:
            tensor: of the same shape and dtype in every process.
            source: rank of the process whose tensor the others receive.
        """
        if self.size > 1:
            with self._explain_lost_process():
                # Bytes, since not every backend supports half precision
                dist.broadcast(tensor.view(torch.uint8), group_src=source, group=self.group)

    def agree(self, digest: bytes, what: str) -> None:
        """Make sure that all processes start from the same thing.

        Args:
            digest: of the thing, of the same length in every process.
            what: the thing in words, for the error.

        Raises:
            ProcessError: a process has another digest; names the first such process.
        """
        if self.size == 1:
            return
        own = torch.frombuffer(bytearray(digest), dtype=torch.uint8).unsqueeze(0)
        rows = self.all_gather(own).tolist()
        for rank, row in enumerate(rows):
            if row != rows[0]:
                raise ProcessError(
                    f"processes 0 and {rank} of {self.size} do not have the same {what}: every process needs the same "
                    "files, the same command and the same version of crosstime."
                )

    @contextmanager
    def _explain_lost_process(self) -> Iterator[None]:
        """Say in one sentence that another process is gone; that process reports its own error itself."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ProcessError(
                f"process {self.rank} of {self.size} stops, because another process was killed or failed "
                f"({reason(error)}); {RESUMABLE}"
            ) from error


class _Total(torch.autograd.Function):
    """All-reduce in the forward pass, identity in the backward pass."""

    @staticmethod
    def forward(ctx: Any, partial: Tensor, processes: Processes) -> Tensor:
        total = partial.clone(memory_format=torch.contiguous_format)
        processes.sum_(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


ALONE = Processes()
"""The group of a program that was not started by ``torchrun``."""


def join_processes(device: torch.device) -> Processes:
    """Join the group of processes that ``torchrun`` started, if it did; the group lasts until the program ends.

    Tensors on the CPU are communicated by gloo, those on a GPU by nccl.

    Raises:
        ProcessError: the group cannot be joined.

    Examples:
        >>> join_processes(torch.device("cpu"))
        Processes(rank=0, size=1)
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and not (dist.is_available() and dist.is_initialized()):
        return ALONE
    if not dist.is_initialized():
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise ProcessError(f"The processes of torchrun cannot be joined: {reason(error)}") from error
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), dist.get_world_size())


def processes_here() -> int:
    """Number of processes that ``torchrun`` started on this machine.

    Examples:
        >>> processes_here()
        1
    """
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process if ``torchrun`` started one process per GPU; otherwise `device` itself."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
