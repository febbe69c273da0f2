"""The tokens of a buffer: one block of encoded activations, which all processes of a machine share.

Several processes that train together need the same tokens: data-parallel processes different rows of them, shards of a
crosscoder all of them. Each process reads a share of the activations. The block is in shared memory, once for all
processes of a machine (`crosstime.machine.shared_memory`), so that a share is written once on its own machine and sent
once to every other one:

1. Every process writes its share into the block of its machine.
2. The first processes of the machines send each other the shares that the other machines do not have.
3. Where rows are removed or moved, the first process of each machine does it while the others wait.

A process that is alone has the block to itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from crosstime.activations.row_format import CHUNK, RowFormat
from crosstime.errors import CrosscoderError
from crosstime.machine.host import Host
from crosstime.machine.processes import ALONE, Processes
from crosstime.machine.shared_memory import shared_bytes

SLACK = 64
"""A block has room for one part in so many more than was asked for: refills differ by a sequence."""


@dataclass(frozen=True, eq=False)
class Share:
    """The activations that one process has read: of some tokens at all checkpoints, or of all tokens at some.

    Attributes:
        rows: encoded activations.
        first_checkpoint: index of its first checkpoint; None if the processes share tokens and not checkpoints.

    Examples:
        >>> Share(torch.zeros(5, 2, 8)).rows.shape
        torch.Size([5, 2, 8])
    """

    rows: Shaped[Tensor, "t c E"]
    first_checkpoint: int | None = None


class TokenRows:
    """Encoded activations of tokens at C checkpoints, in the order in which they were added.

    All processes call every method but `encoded` and `decoded` together, in the same order.

    Args:
        n_checkpoints, d_model: C and D.
        row_format: how a row is kept.
        processes: the processes that read shares of the tokens and use all of them.

    Examples:
        >>> rows = TokenRows(1, 2, RowFormat("float32"))
        >>> rows.append(Share(torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])))
        >>> rows.keep(torch.tensor([1]))
        >>> len(rows), rows[torch.tensor([0])].tolist()
        (1, [[[3.0, 4.0]]])
    """

    def __init__(self, n_checkpoints: int, d_model: int, row_format: RowFormat, processes: Processes = ALONE) -> None:
        self.row_format, self._processes = row_format, processes
        self._host = Host.of(processes)
        self._rows = torch.empty(0, n_checkpoints, row_format.width(d_model), dtype=row_format.dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, indices: Int[Tensor, " B"]) -> Float[Tensor, "B C D"]:
        """The activations of some tokens, decoded."""
        return self.row_format.decode(self.encoded(indices))

    def encoded(self, indices: Int[Tensor, " B"]) -> Shaped[Tensor, "B C E"]:
        """A copy of the rows of some tokens as they are kept."""
        return self._rows[: self._length][indices]

    def decoded(self, start: int = 0) -> Iterator[Float[Tensor, "t C D"]]:
        """The activations of all tokens from one on, some at a time."""
        for chunk in self._rows[start : self._length].split(CHUNK):
            yield self.row_format.decode(chunk)

    def append(self, share: Share) -> None:
        """Add the shares of all processes: tokens in the order of the processes, or checkpoints side by side."""
        # Find the place of every share
        shares = self._processes.gather([len(share.rows), share.rows.shape[1], share.first_checkpoint])
        places: list[tuple[slice, slice]] = []
        start = end = self._length
        for n_tokens, n_checkpoints, first in shares:
            if first is None:
                start, end = end, end + n_tokens
                places.append((slice(start, end), slice(None)))
            else:
                end = start + n_tokens
                places.append((slice(start, end), slice(first, first + n_checkpoints)))
        self._reserve(end)

        # Write the shares of this machine, then those of the others
        self._rows[places[self._processes.rank]] = share.rows
        self._host.processes.barrier()
        if self._host.leaders.size > 1:
            for machine, place in zip(self._host.machine_of, places, strict=True):
                rows = self._rows[place].contiguous()
                self._host.leaders.broadcast_(rows, machine)
                self._rows[place] = rows
        self._host.processes.barrier()
        self._length = end

    def load(self, rows: Shaped[Tensor, "T C E"]) -> None:
        """Replace all tokens by rows that every process has.

        Raises:
            CrosscoderError: the rows are of another format or size.
        """
        expected = (self._rows.dtype, *self._rows.shape[1:])
        if (rows.dtype, *rows.shape[1:]) != expected:
            raise CrosscoderError(
                f"Cannot resume training: the saved activations are {rows.dtype} of shape {tuple(rows.shape)}, which "
                f"does not fit a buffer of {self.row_format.name} for {expected[1]} checkpoints."
            )
        self._length = 0
        self._reserve(len(rows))
        self._once(lambda: self._rows[: len(rows)].copy_(rows))
        self._length = len(rows)

    def keep(self, indices: Int[Tensor, " K"], start: int = 0) -> None:
        """Keep some of the tokens, in the order of their indices, and remove the others.

        Args:
            indices: positions of the tokens, counted from `start`.
            start: the tokens before it stay.
        """
        old = self._rows[start : self._length]
        self._once(lambda: self._rows[start : start + len(indices)].copy_(old[indices]))
        self._length = start + len(indices)

    def truncate(self, length: int) -> None:
        """Remove the tokens beyond a number."""
        self._length = min(self._length, length)

    def _once(self, change: Callable[[], object]) -> None:
        """Let the first process of each machine change the block, when no process reads it."""
        self._host.processes.barrier()
        if self._host.processes.first:
            change()
        self._host.processes.barrier()

    def _reserve(self, n_tokens: int) -> None:
        """Make room for a number of tokens in all, in another block if it is too small."""
        if n_tokens <= len(self._rows):
            return
        old = self._rows
        shape = (n_tokens + n_tokens // SLACK, *old.shape[1:])
        self._rows = self._shared(shape)
        self._once(lambda: self._rows[: self._length].copy_(old[: self._length]))

    def _shared(self, shape: tuple[int, ...]) -> Shaped[Tensor, "N C E"]:
        """A block that the processes of this machine share; one for each process if they cannot."""
        dtype = self.row_format.dtype
        if self._processes.size > 1:
            alone = self._host.processes.size == 1
            block = None if alone else shared_bytes(math.prod(shape) * dtype.itemsize, self._host.processes)
            if self._processes.maximum(torch.tensor(block is None and not alone)):
                self._host = Host.apart(self._processes)
            elif block is not None:
                return block.view(dtype).view(shape)
        return torch.empty(shape, dtype=dtype)
