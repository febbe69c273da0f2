"""Shuffled batches of the activations of several checkpoints on the same tokens, computed on the fly.

1. *Filling.* The buffer reads tokens from its source until it has `buffer_tokens`, each process its share of them, and
   shuffles them. The first filling sets the scales.
2. *Serving.* Batches are the tokens in shuffled order. When half of the buffer has been served, the tokens that were
   not served are kept, as many new ones are read as are missing, and all are shuffled.
3. *Reading ahead.* How many tokens the next filling needs is known as soon as one has ended. A source that does not
   compete with the training steps for the processor reads them in a thread while batches are served. Batches, and the
   state from which another process resumes, are the same as without it.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from crosstime.activations.buffer_state import BufferState
from crosstime.activations.data_config import DataConfig
from crosstime.activations.read_ahead import Position, ReadAhead, Reading
from crosstime.activations.row_format import RowFormat
from crosstime.activations.token_rows import Share, TokenRows
from crosstime.errors import CrosscoderError
from crosstime.machine.processes import ALONE, Processes
from crosstime.suites.compute import Compute
from crosstime.suites.resident_checkpoints import ResidentCheckpoints
from crosstime.suites.suite import Suite
from crosstime.suites.token_norms import OUTLIER, is_outlier, token_norms, warn_of_outliers
from interventions import Model, Sequences, Site, fetch
from interventions.remote.pause import pause


class ShuffledBuffer(ABC):
    """Iterator over batches ``B C D`` of activations that are drawn at random from a buffer.

    When half of the buffer has been served, it is refilled and reshuffled, so that tokens that are neighbours in the
    source end up in different batches. The same arguments give the same batches, and a buffer that starts from the
    `state` of another one continues where that one stopped. Subclasses say where activations come from.

    Tokens of huge norm are left out where `data` says so: those whose norm at any checkpoint is above a multiple of the
    median there. The medians are those of the first filling, so that all fillings are cut alike.

    Args:
        revisions: names of the C checkpoints.
        d_model: D.
        data: batch size, buffer size (memory: buffer_tokens x C x D numbers, plus the rest of a sequence or block),
            dtype, seed, and which tokens are left out.
        limit: total number of tokens to serve; None for no limit.
        processes: processes that read a share of the tokens each, and all serve the same batches.

    Attributes:
        scales: ``s_c = sqrt(D) / E||x_c||``, or with the median norm in place of the mean.
        tokens: number of tokens read so far, without those that were left out.
        left_out: number of tokens that were left out so far.

    Raises:
        CrosscoderError: the buffer is smaller than a batch.
    """

    scales: Float[Tensor, " C"]

    def __init__(
        self,
        revisions: Sequence[str],
        d_model: int,
        data: DataConfig,
        *,
        limit: int | None,
        processes: Processes = ALONE,
    ) -> None:
        if data.buffer_tokens < data.batch_size:
            raise CrosscoderError(
                f"A buffer of {data.buffer_tokens:,} tokens cannot serve batches of {data.batch_size:,}."
            )
        self.data, self.limit = data, limit
        self.tokens = self.left_out = 0
        self.row_format = RowFormat(data.buffer_dtype)
        self._processes = processes
        self._revisions, self._d_model = tuple(revisions), d_model
        self._medians: Float[Tensor, " C"] | None = None
        self._generator = torch.Generator().manual_seed(data.seed)
        self._rows = TokenRows(len(revisions), d_model, self.row_format, processes)
        self._order = torch.empty(0, dtype=torch.int64)
        self._n_unserved = 0
        self._exhausted = False
        self._position = Position(0, "")
        self._ahead = ReadAhead(self._read) if self._reads_ahead else None

    @property
    def batch_size(self) -> int:
        """B, the number of tokens in a batch."""
        return self.data.batch_size

    @abstractmethod
    def _read(self, n_tokens: int) -> Reading:
        """Read whole sequences or blocks until they have at least `n_tokens` tokens, or the source ends.

        Where the source reads ahead, this runs in a thread, and does not communicate with other processes.

        Returns:
            This process's share of them, and how far the source has been read.
        """

    @property
    def _reads_ahead(self) -> bool:
        """Whether the next tokens are read in a thread while batches are served."""
        return False

    def __iter__(self) -> Iterator[Float[Tensor, "B C D"]]:
        return self

    def __next__(self) -> Float[Tensor, "B C D"]:
        if not self._exhausted and self._is_due(self._n_unserved):
            self._refill()
        if self._n_unserved < self.batch_size:
            raise StopIteration

        start, served = len(self._rows) - self._n_unserved, self.tokens - self._n_unserved
        self._n_unserved -= self.batch_size
        batch = self._rows[self._order[start : start + self.batch_size]]
        return batch if self.data.null is None else self.data.null(batch, served)

    def close(self) -> None:
        """Stop reading ahead; waits until the thread has noticed."""
        if self._ahead is not None:
            self._ahead.close()

    def state(self) -> BufferState:
        """Snapshot of the buffer, from which another buffer can continue; copies the activations not served yet."""
        return BufferState(
            activations=self._rows.encoded(self._unserved),
            generator=self._generator.get_state(),
            scales=self.scales,
            tokens=self.tokens,
            sequences=self._position.sequences,
            digest=self._position.digest,
            exhausted=self._exhausted,
            medians=self._medians,
            left_out=self.left_out,
        )

    def _restore(self, state: BufferState) -> None:
        self._rows.load(state.activations)
        self._order = torch.arange(len(self._rows))
        self._n_unserved = len(self._rows)
        self._generator.set_state(state.generator)
        self.scales, self.tokens, self._exhausted = state.scales, state.tokens, state.exhausted
        self._medians, self.left_out = state.medians, state.left_out
        self._position = Position(state.sequences, state.digest)
        self._read_next()

    @property
    def _unserved(self) -> Int[Tensor, " U"]:
        """Positions of the tokens that were not served yet, in the order in which they will be."""
        return self._order[len(self._rows) - self._n_unserved :]

    def _is_due(self, n_unserved: int) -> bool:
        """Whether the buffer is refilled before the next batch, when so many tokens are left."""
        return n_unserved <= self.data.buffer_tokens // 2 or n_unserved < self.batch_size

    def _refill(self) -> None:
        """Keep the tokens not served yet, read the rest of the buffer's size, and shuffle all of them."""
        self._rows.keep(self._unserved)

        # Read new tokens, again only if so many are left out that they do not fill a batch
        while True:
            self._add(self._missing(len(self._rows)))
            if self._exhausted or len(self._rows) >= self.batch_size:
                break

        # Shuffle old and new tokens together
        self._order = torch.randperm(len(self._rows), generator=self._generator)
        self._n_unserved = len(self._rows)
        self._read_next()

    def _missing(self, n_tokens: int) -> int:
        """How many tokens a filling reads when it starts from so many."""
        missing = self.data.buffer_tokens - n_tokens
        return missing if self.limit is None else min(missing, self.limit - self.tokens)

    def _read_next(self) -> None:
        """Start to read what the next filling needs."""
        if self._ahead is None or self._exhausted:
            return
        n_unserved = self._n_unserved
        while not self._is_due(n_unserved):
            n_unserved -= self.batch_size
        self._ahead.start(self._missing(n_unserved))

    def _add(self, n_tokens: int) -> None:
        """Read tokens, whole sequences or blocks at a time, leave out those of huge norm, and cut at the limit."""
        reading = self._read(n_tokens) if self._ahead is None else self._ahead.result(n_tokens)
        self._processes.agree(reading.position.digest.encode(), "text")
        self._position = reading.position
        start = len(self._rows)
        self._rows.append(reading.share)
        self._exhausted |= len(self._rows) - start < n_tokens
        self._leave_out_huge(start)
        if self.limit is not None:
            self._rows.truncate(start + self.limit - self.tokens)
        self.tokens += len(self._rows) - start
        self._exhausted |= self.limit is not None and self.tokens >= self.limit

    def _leave_out_huge(self, start: int) -> None:
        """Remove the tokens from `start` on whose norm is above the multiple of the median at any checkpoint."""
        multiple, first = self.data.max_activation_norm_multiple, self.tokens + self.left_out == 0
        if start == len(self._rows) or (multiple is None and not first):
            return
        norms = self._norms(start)
        if first and (multiple is None or multiple > OUTLIER) and self._processes.first:
            warn_of_outliers(norms, self._revisions)
        if multiple is None:
            return

        # Cut by the medians of the first filling
        if self._medians is None:
            self._medians = norms.median(0).values
        if not (self._medians > 0).all():
            revision = self._revisions[int(self._medians.argmin())]
            raise CrosscoderError(
                f"The median norm of the activations at {revision!r} is zero, so that max_activation_norm_multiple "
                "cannot be used."
            )
        mask = ~is_outlier(norms, multiple, self._medians).any(1)
        self.left_out += int((~mask).sum())
        self._rows.keep(mask.nonzero().squeeze(1), start)

    def _norms(self, start: int = 0) -> Float[Tensor, "T C"]:
        """Norms of the tokens in the buffer from one on."""
        return torch.cat([token_norms(x) for x in self._rows.decoded(start)])

    def _measure_scales(self) -> Float[Tensor, " C"]:
        """``sqrt(D)`` over the average norm of the tokens in the buffer, at each checkpoint."""
        norms = self._norms()
        average = norms.mean(dim=0) if self.data.scale_by == "mean" else norms.median(dim=0).values
        return self._d_model**0.5 / average


class ActivationBuffer(ShuffledBuffer):
    """Batches ``B C D`` of activations at one site, the C checkpoints aligned token by token.

    Sequences are run through one checkpoint after the other; checkpoints that fit in memory stay open from one filling
    to the next, and the others are opened by turn (`crosstime.suites.resident_checkpoints`). The first token of each
    sequence is dropped: the norm of its activation is far larger than all others and would dominate scales and loss.
    Nothing is written to disk (`crosstime.harvest` does that).

    Args:
        suite: the C checkpoints.
        site: where activations are read.
        sequences: token sequences of equal length.
        data: batch size, buffer size, dtype and seed of the buffer.
        compute: how the checkpoints are run; or the checkpoints, which stay open as long as their owner wants.
        limit: total number of tokens to serve; None serves as many as there are.
        state: state of another buffer to continue from. `sequences` must start at the beginning of the same text, and
            is advanced to where that buffer stopped.
        processes: processes that run the checkpoints together, each on its share of the sequences, or, where not all
            checkpoints fit in the memory of each, its share of the checkpoints. All of them receive all activations.
        on_harvest: progress callback, called with (tokens read, tokens to read) of one filling, counted over all
            checkpoints.

    Attributes:
        scales: ``s_c = sqrt(D) / E||x_c||`` over the first filling of the buffer.
        tokens: number of tokens read so far, without those that were left out.

    Raises:
        CrosscoderError: there is no sequence, the buffer is smaller than a batch, or `state` belongs to another text.

    Examples:
        >>> buffer = ActivationBuffer(suite, Site(1), sequences, DataConfig(batch_size=1024))  # doctest: +SKIP
        >>> for step, x in enumerate(buffer):  # doctest: +SKIP
        ...     trainer.update(step, x)
    """

    def __init__(
        self,
        suite: Suite,
        site: Site,
        sequences: Iterator[Int[Tensor, " S"]],
        data: DataConfig = DataConfig(),
        *,
        compute: Compute | ResidentCheckpoints = Compute(),
        limit: int | None = None,
        state: BufferState | None = None,
        processes: Processes = ALONE,
        on_harvest: Callable[[int, int], None] | None = None,
    ) -> None:
        self.checkpoints = compute if isinstance(compute, ResidentCheckpoints) else ResidentCheckpoints(compute, suite)
        super().__init__(suite.revisions, suite.d_model, data, limit=limit, processes=processes)
        self.suite, self.site = suite, site
        self._on_harvest = on_harvest
        self._sequences = iter(sequences)
        self._n_sequences = 0
        self._digest = hashlib.sha256()

        # Continue from the state of another buffer, or fill the buffer and measure the scales.
        if state is not None:
            self._skip_to(state)
            self._restore(state)
            return
        self._refill()
        if not len(self._rows):
            raise CrosscoderError("The corpus has no sequence of at least two tokens to train on.")
        self.scales = self._measure_scales()

    @property
    def _reads_ahead(self) -> bool:
        """On a GPU or a server, the checkpoints leave the processor to the training steps; on a CPU they do not."""
        compute = self.checkpoints.compute
        return compute.hosted or compute.torch_device.type != "cpu"

    def _skip_to(self, state: BufferState) -> None:
        for _ in range(state.sequences):
            if self._next_sequence() is None:
                break
        if self._digest.hexdigest() != state.digest:
            raise CrosscoderError(
                "The text is not the one that training was interrupted on: its first "
                f"{state.sequences:,} sequences differ. Give the same text, or train from the beginning."
            )

    def _next_sequence(self) -> Int[Tensor, " S"] | None:
        sequence = next(self._sequences, None)
        if sequence is not None:
            self._n_sequences += 1
            self._digest.update(sequence.numpy().tobytes())
        return sequence

    def _read(self, n_tokens: int) -> Reading:
        sequences: list[tuple[int, ...]] = []
        count = 0
        while count < n_tokens and (sequence := self._next_sequence()) is not None:
            if len(sequence) > 1:
                sequences.append(tuple(sequence.tolist()))
                count += len(sequence) - 1
        position = Position(self._n_sequences, self._digest.hexdigest())

        indices = list(range(len(self.suite)))
        if not self._shares_checkpoints:
            return Reading(Share(self._harvest(self._processes.share(sequences), indices)), position)
        indices = list(self._processes.share(indices))
        return Reading(Share(self._harvest(sequences, indices), first_checkpoint=indices[0]), position)

    @cached_property
    def _shares_checkpoints(self) -> bool:
        """Whether each process runs some of the checkpoints on all sequences: if it cannot keep all of them open."""
        if self._processes.size == 1 or self._processes.size > len(self.suite) or self.checkpoints.compute.hosted:
            return False
        fits = torch.tensor([self.checkpoints.fits(len(self.suite))])
        return bool(self._processes.maximum(~fits))

    def _harvest(self, token_ids: Sequence[tuple[int, ...]], indices: Sequence[int]) -> Shaped[Tensor, "T c E"]:
        """Encoded activations of all tokens but each sequence's first, at some checkpoints."""
        width = self.row_format.width(self.suite.d_model)
        if not token_ids:
            return torch.empty(0, len(indices), width, dtype=self.row_format.dtype)
        sequences = Sequences(list(token_ids))
        not_first = sequences.position_of_token > 0
        rows = torch.empty(int(not_first.sum()), len(indices), width, dtype=self.row_format.dtype)

        finished: list[int] = []

        def read(checkpoint_index: int, model: Model) -> None:
            pause(0.0)
            at_checkpoint = fetch(model, sequences, [self.site])[self.site]
            rows[:, indices.index(checkpoint_index)] = self.row_format.encode(at_checkpoint[not_first])
            finished.append(checkpoint_index)
            if self._on_harvest is not None:
                self._on_harvest(len(finished) * len(rows), len(indices) * len(rows))

        self.checkpoints.each(read, indices)
        return rows
