"""Shuffled batches of the activations of several checkpoints on the same tokens, made on the fly."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from crosstime.errors import CrosscoderError
from crosstime.machine.processes import ALONE, Processes
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Sequences, Site, fetch


@dataclass(frozen=True, eq=False)
class BufferState:
    """All that a buffer needs to go on serving the same batches in another process.

    Attributes:
        held: activations not served yet, in the order in which they would be.
        generator: state of the shuffling.
        scales: s_c.
        tokens: tokens taken in so far.
        sequences: how many pieces were taken from the source: sequences of a text, blocks of a store.
        digest: of what was taken from the text, or of the store.
        exhausted: nothing more will be taken in.
    """

    held: Float[Tensor, "T C D"]
    generator: UInt8[Tensor, " G"]
    scales: Float[Tensor, " C"]
    tokens: int
    sequences: int
    digest: str
    exhausted: bool


class ShuffledBuffer(ABC):
    """Batches ``B C D`` of activations drawn at random from a buffer, wherever its rows come from.

    When half of the buffer is used, it is filled up and shuffled anew, so that neighbouring pieces of the source
    mix. The same arguments give the same batches, and `state` goes on from where another buffer was.

    Args:
        n_checkpoints, d_model: C and D.
        batch_size: B, in tokens.
        capacity: tokens that the buffer holds, up to whole pieces (memory: capacity x C x D x 4 bytes).
        limit: tokens that will be taken in all; no more than these are kept. None: no limit.
        seed: of the shuffling.
        dtype: in which activations are held; bfloat16 and float16 halve the memory.

    Attributes:
        scales: ``s_c = sqrt(D) / E||x_c||``.
        tokens: tokens taken in so far.

    Raises:
        CrosscoderError: a batch without a token, or a buffer smaller than a batch.
    """

    scales: Float[Tensor, " C"]

    def __init__(
        self,
        n_checkpoints: int,
        d_model: int,
        *,
        batch_size: int,
        capacity: int,
        limit: int | None,
        seed: int,
        dtype: torch.dtype,
    ) -> None:
        if batch_size < 1:
            raise CrosscoderError(f"A batch needs at least one token, not {batch_size}.")
        if capacity < batch_size:
            raise CrosscoderError(f"A buffer of {capacity:,} tokens cannot give batches of {batch_size:,}.")
        self.batch_size, self.capacity, self.limit = batch_size, capacity, limit
        self.tokens = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._held = torch.empty(0, n_checkpoints, d_model, dtype=dtype)
        self._order, self._left = torch.empty(0, dtype=torch.int64), 0
        self._exhausted = False

    @abstractmethod
    def _more(self, wanted: int, dtype: torch.dtype) -> Float[Tensor, "T C D"]:
        """At least `wanted` further rows, in whole pieces; fewer where the source ends."""

    @abstractmethod
    def _place(self) -> tuple[int, str]:
        """How many pieces were taken from the source, and a digest that tells the source from others."""

    def __iter__(self) -> Iterator[Float[Tensor, "B C D"]]:
        return self

    def __next__(self) -> Float[Tensor, "B C D"]:
        if not self._exhausted and (self._left <= self.capacity // 2 or self._left < self.batch_size):
            self._fill()
        if self._left < self.batch_size:
            raise StopIteration
        start = len(self._held) - self._left
        self._left -= self.batch_size
        return self._held[self._order[start : start + self.batch_size]]

    def state(self) -> BufferState:
        """Where the buffer is, to go on from there later; costs a copy of what it holds."""
        return BufferState(
            self._unused().clone(), self._generator.get_state(), self.scales, self.tokens, *self._place(),
            self._exhausted,
        )  # fmt: skip

    def _resume(self, state: BufferState) -> None:
        self._held = state.held.to(self._held.dtype)
        self._order, self._left = torch.arange(len(self._held)), len(self._held)
        self._generator.set_state(state.generator)
        self.scales, self.tokens, self._exhausted = state.scales, state.tokens, state.exhausted

    def _unused(self) -> Float[Tensor, "T C D"]:
        return self._held[self._order[len(self._held) - self._left :]] if len(self._held) else self._held

    def _fill(self) -> None:
        """Keep what is unused, take in the rest of the capacity, shuffle all of it anew."""
        unused = self._unused()
        del self._held
        wanted = self.capacity - len(unused)
        if self.limit is not None:
            wanted = min(wanted, self.limit - self.tokens)
        taken = self._more(wanted, unused.dtype)
        self._exhausted |= len(taken) < wanted
        if self.limit is not None:
            taken = taken[: self.limit - self.tokens]
        self.tokens += len(taken)
        self._exhausted |= self.limit is not None and self.tokens >= self.limit
        self._held = torch.cat([unused, taken])
        self._order = torch.randperm(len(self._held), generator=self._generator)
        self._left = len(self._held)


class ActivationBuffer(ShuffledBuffer):
    """Batches ``B C D`` of activations at one site, all C checkpoints aligned token for token.

    A chunk of sequences is run through one checkpoint after the other, so one model is in memory at a
    time. The first token of each sequence is dropped: its activations are of another size than all
    others and would dominate scales and loss. Nothing is written to disk; `crosstime.activations.harvest` does that.

    Args:
        suite: the C checkpoints.
        site: where activations are read.
        sequences: token sequences of one length, for as long as there are any.
        batch_size, capacity, limit, seed, dtype: see `ShuffledBuffer`.
        compute: how the checkpoints are run.
        on_harvest: called with (tokens read, tokens to read) counted over all checkpoints.
        state: go on where another buffer was; `sequences` begins anew and is read up to that place.
        processes: those that harvest together, each its share of the sequences; all of them get all activations.

    Attributes:
        scales: ``s_c = sqrt(D) / E||x_c||`` over the first filling.
        tokens: tokens harvested so far.

    Raises:
        CrosscoderError: no sequence, a buffer smaller than a batch, or a state that was left with other text.

    Examples:
        >>> buffer = ActivationBuffer(suite, Site(1), sequences, batch_size=1024)  # doctest: +SKIP
        >>> for x in buffer:  # doctest: +SKIP
        ...     trainer.update(step, x)
    """

    def __init__(
        self,
        suite: Suite,
        site: Site,
        sequences: Iterator[Int[Tensor, " S"]],
        *,
        batch_size: int,
        capacity: int = 1 << 18,
        compute: Compute = Compute(),
        limit: int | None = None,
        seed: int = 0,
        on_harvest: Callable[[int, int], None] | None = None,
        dtype: torch.dtype = torch.float32,
        state: BufferState | None = None,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(
            len(suite), suite.d_model, batch_size=batch_size, capacity=capacity, limit=limit, seed=seed, dtype=dtype
        )
        self.suite, self.site = suite, site
        self.compute, self.on_harvest, self._processes = compute, on_harvest, processes
        self._sequences, self._taken, self._digest = iter(sequences), 0, hashlib.sha256()
        if state is not None:
            self._skip_to(state)
            return
        self._fill()
        if not len(self._held):
            raise CrosscoderError("The corpus has no sequence of at least two tokens to train on.")
        norms = self._held.float().norm(dim=-1).mean(dim=0)
        self.scales = suite.d_model**0.5 / norms

    def _skip_to(self, state: BufferState) -> None:
        for _ in range(state.sequences):
            if self._take() is None:
                break
        if self._digest.hexdigest() != state.digest:
            raise CrosscoderError(
                "The text is not the one that training was interrupted on: its first "
                f"{state.sequences:,} sequences differ. Give the same text, or start anew."
            )
        self._resume(state)

    def _place(self) -> tuple[int, str]:
        return self._taken, self._digest.hexdigest()

    def _take(self) -> Int[Tensor, " S"] | None:
        row = next(self._sequences, None)
        if row is not None:
            self._taken += 1
            self._digest.update(row.numpy().tobytes())
        return row

    def _more(self, wanted: int, dtype: torch.dtype) -> Float[Tensor, "T C D"]:
        rows: list[tuple[int, ...]] = []
        count = 0
        while count < wanted and (row := self._take()) is not None:
            if len(row) > 1:
                rows.append(tuple(row.tolist()))
                count += len(row) - 1
        return self._processes.gathered(self._harvest(self._processes.share(rows), dtype))

    def _harvest(self, rows: Sequence[tuple[int, ...]], dtype: torch.dtype) -> Float[Tensor, "T C D"]:
        if not rows:
            return torch.empty(0, len(self.suite), self.suite.d_model, dtype=dtype)
        sequences = Sequences(list(rows))
        kept = sequences.position_of_token > 0
        out = torch.empty(int(kept.sum()), len(self.suite), self.suite.d_model, dtype=dtype)
        for index, checkpoint in enumerate(self.suite):
            with self.compute.open(self.suite, checkpoint.revision) as model:
                found = fetch(model, sequences, [self.site])
            out[:, index] = found[self.site][kept].to(dtype)
            if self.on_harvest is not None:
                self.on_harvest((index + 1) * len(out), len(self.suite) * len(out))
        return out
