"""Shuffled batches of the activations of several checkpoints on the same tokens, computed on the fly."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from crosstime.activations.data_config import DataConfig
from crosstime.errors import CrosscoderError
from crosstime.machine.dtypes import torch_dtype
from crosstime.machine.processes import ALONE, Processes
from crosstime.suites.compute import Compute
from crosstime.suites.resident import ResidentCheckpoints
from crosstime.suites.suite import Suite
from crosstime.suites.token_norms import OUTLIER, is_outlier, token_norms, warn_of_outliers
from interventions import Model, Sequences, Site, fetch


@dataclass(frozen=True, eq=False)
class BufferState:
    """Everything that a buffer needs to continue with the same batches in another process.

    Attributes:
        activations: activations that have not been served yet, in the order in which they will be.
        generator: state of the random generator that shuffles.
        scales: ``s_c = sqrt(D) / E||x_c||``.
        medians: median norm at each checkpoint, by which tokens of huge norm are left out; None if none are.
        left_out: number of tokens that were left out so far.
        tokens: number of tokens read so far, without those.
        sequences: how far the source has been read: number of sequences of a text, or of blocks of a store.
        digest: digest of the text read so far, or of the store.
        exhausted: whether the source has nothing more to read.
    """

    activations: Float[Tensor, "T C D"]
    generator: UInt8[Tensor, " G"]
    scales: Float[Tensor, " C"]
    tokens: int
    sequences: int
    digest: str
    exhausted: bool
    medians: Float[Tensor, " C"] | None = None
    left_out: int = 0


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

    Attributes:
        scales: ``s_c = sqrt(D) / E||x_c||``, or with the median norm in place of the mean.
        tokens: number of tokens read so far, without those that were left out.
        left_out: number of tokens that were left out so far.

    Raises:
        CrosscoderError: the buffer is smaller than a batch.
    """

    scales: Float[Tensor, " C"]

    def __init__(self, revisions: Sequence[str], d_model: int, data: DataConfig, *, limit: int | None) -> None:
        if data.buffer_tokens < data.batch_size:
            raise CrosscoderError(
                f"A buffer of {data.buffer_tokens:,} tokens cannot serve batches of {data.batch_size:,}."
            )
        self.data, self.limit = data, limit
        self.tokens = self.left_out = 0
        self._revisions = tuple(revisions)
        self._medians: Float[Tensor, " C"] | None = None
        self._generator = torch.Generator().manual_seed(data.seed)
        self._dtype = torch_dtype(data.buffer_dtype)
        self._activations = torch.empty(0, len(revisions), d_model, dtype=self._dtype)
        self._order = torch.empty(0, dtype=torch.int64)
        self._n_unserved = 0
        self._exhausted = False

    @property
    def batch_size(self) -> int:
        """B, the number of tokens in a batch."""
        return self.data.batch_size

    @abstractmethod
    def _read(self, n_tokens: int) -> Float[Tensor, "T C D"]:
        """Read whole sequences or blocks until they have at least `n_tokens` tokens, or the source ends."""

    @abstractmethod
    def _position(self) -> tuple[int, str]:
        """How far the source has been read, and a digest that identifies the source."""

    def __iter__(self) -> Iterator[Float[Tensor, "B C D"]]:
        return self

    def __next__(self) -> Float[Tensor, "B C D"]:
        half_served = self._n_unserved <= self.data.buffer_tokens // 2
        if not self._exhausted and (half_served or self._n_unserved < self.batch_size):
            self._refill()
        if self._n_unserved < self.batch_size:
            raise StopIteration

        start, served = len(self._activations) - self._n_unserved, self.tokens - self._n_unserved
        self._n_unserved -= self.batch_size
        batch = self._activations[self._order[start : start + self.batch_size]]
        return batch if self.data.null is None else self.data.null(batch, served)

    def state(self) -> BufferState:
        """Snapshot of the buffer, from which another buffer can continue; copies the activations not served yet."""
        sequences, digest = self._position()
        return BufferState(
            activations=self._unserved().clone(),
            generator=self._generator.get_state(),
            scales=self.scales,
            tokens=self.tokens,
            sequences=sequences,
            digest=digest,
            exhausted=self._exhausted,
            medians=self._medians,
            left_out=self.left_out,
        )

    def _restore(self, state: BufferState) -> None:
        self._activations = state.activations.to(self._dtype)
        self._order = torch.arange(len(self._activations))
        self._n_unserved = len(self._activations)
        self._generator.set_state(state.generator)
        self.scales, self.tokens, self._exhausted = state.scales, state.tokens, state.exhausted
        self._medians, self.left_out = state.medians, state.left_out

    def _unserved(self) -> Float[Tensor, "T C D"]:
        if not len(self._activations):
            return self._activations
        return self._activations[self._order[len(self._activations) - self._n_unserved :]]

    def _refill(self) -> None:
        """Keep the tokens not served yet, read the rest of the buffer's size, and shuffle all of them."""
        # Free the served tokens before reading new ones, so that the buffer is in memory only once.
        unserved = self._unserved()
        del self._activations

        # Read new tokens, again only if so many are left out that they do not fill a batch.
        parts = [unserved]
        while True:
            parts.append(self._read_up_to(self.data.buffer_tokens - sum(map(len, parts))))
            if self._exhausted or sum(map(len, parts)) >= self.batch_size:
                break

        # Shuffle old and new tokens together.
        self._activations = torch.cat(parts)
        self._order = torch.randperm(len(self._activations), generator=self._generator)
        self._n_unserved = len(self._activations)

    def _read_up_to(self, n_tokens: int) -> Float[Tensor, "T C D"]:
        """Read tokens, whole sequences or blocks at a time, leave out those of huge norm, and cut at the limit."""
        if self.limit is not None:
            n_tokens = min(n_tokens, self.limit - self.tokens)
        activations = self._read(n_tokens)
        self._exhausted |= len(activations) < n_tokens
        activations = self._without_huge(activations)
        if self.limit is not None:
            activations = activations[: self.limit - self.tokens]
        self.tokens += len(activations)
        self._exhausted |= self.limit is not None and self.tokens >= self.limit
        return activations

    def _without_huge(self, activations: Float[Tensor, "T C D"]) -> Float[Tensor, "M C D"]:
        """The M tokens whose norm is not above the multiple of the median at any checkpoint."""
        multiple, first = self.data.max_activation_norm_multiple, self.tokens + self.left_out == 0
        if not len(activations) or (multiple is None and not first):
            return activations
        norms = token_norms(activations)
        if first and (multiple is None or multiple > OUTLIER):
            warn_of_outliers(norms, self._revisions)
        if multiple is None:
            return activations

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
        return activations[mask]

    def _measure_scales(self) -> Float[Tensor, " C"]:
        """``sqrt(D)`` over the average norm of the tokens in the buffer, at each checkpoint."""
        norms = token_norms(self._activations)
        average = norms.mean(dim=0) if self.data.scale_by == "mean" else norms.median(dim=0).values
        return self._activations.shape[-1] ** 0.5 / average


class ActivationBuffer(ShuffledBuffer):
    """Batches ``B C D`` of activations at one site, the C checkpoints aligned token by token.

    Sequences are run through one checkpoint after the other; checkpoints that fit in memory stay open from one filling
    to the next, and the others are opened by turn (`crosstime.suites.resident`). The first token of each sequence is
    dropped: the norm of its activation is far larger than all others and would dominate scales and loss. Nothing is
    written to disk (`crosstime.harvest` does that).

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
        super().__init__(suite.revisions, suite.d_model, data, limit=limit)
        self.suite, self.site = suite, site
        self.checkpoints = compute if isinstance(compute, ResidentCheckpoints) else ResidentCheckpoints(compute, suite)
        self._processes, self._on_harvest = processes, on_harvest
        self._sequences = iter(sequences)
        self._n_sequences = 0
        self._digest = hashlib.sha256()

        # Continue from the state of another buffer, or fill the buffer and measure the scales.
        if state is not None:
            self._skip_to(state)
            self._restore(state)
            return
        self._refill()
        if not len(self._activations):
            raise CrosscoderError("The corpus has no sequence of at least two tokens to train on.")
        self.scales = self._measure_scales()

    def _skip_to(self, state: BufferState) -> None:
        for _ in range(state.sequences):
            if self._next_sequence() is None:
                break
        if self._digest.hexdigest() != state.digest:
            raise CrosscoderError(
                "The text is not the one that training was interrupted on: its first "
                f"{state.sequences:,} sequences differ. Give the same text, or train from the beginning."
            )

    def _position(self) -> tuple[int, str]:
        return self._n_sequences, self._digest.hexdigest()

    def _next_sequence(self) -> Int[Tensor, " S"] | None:
        sequence = next(self._sequences, None)
        if sequence is not None:
            self._n_sequences += 1
            self._digest.update(sequence.numpy().tobytes())
        return sequence

    def _read(self, n_tokens: int) -> Float[Tensor, "T C D"]:
        sequences: list[tuple[int, ...]] = []
        count = 0
        while count < n_tokens and (sequence := self._next_sequence()) is not None:
            if len(sequence) > 1:
                sequences.append(tuple(sequence.tolist()))
                count += len(sequence) - 1
        self._processes.agree(self._digest.digest(), "text")
        indices = list(range(len(self.suite)))
        if not sequences or not self._shares_checkpoints:
            return self._processes.all_gather(self._harvest(self._processes.share(sequences), indices))
        share = self._harvest(sequences, list(self._processes.share(indices)))
        return self._processes.all_gather(share.transpose(0, 1).contiguous()).transpose(0, 1).contiguous()

    @cached_property
    def _shares_checkpoints(self) -> bool:
        """Whether each process runs some of the checkpoints on all sequences: if it cannot keep all of them open."""
        if self._processes.size == 1 or self._processes.size > len(self.suite) or self.checkpoints.compute.hosted:
            return False
        fits = torch.tensor([self.checkpoints.fits(len(self.suite))])
        return bool(self._processes.maximum(~fits))

    def _harvest(self, token_ids: Sequence[tuple[int, ...]], indices: Sequence[int]) -> Float[Tensor, "T c D"]:
        """Activations of all tokens but each sequence's first, at some checkpoints."""
        if not token_ids:
            return torch.empty(0, len(indices), self.suite.d_model, dtype=self._dtype)
        sequences = Sequences(list(token_ids))
        not_first = sequences.position_of_token > 0
        activations = torch.empty(int(not_first.sum()), len(indices), self.suite.d_model, dtype=self._dtype)

        finished: list[int] = []

        def read(checkpoint_index: int, model: Model) -> None:
            at_checkpoint = fetch(model, sequences, [self.site])[self.site]
            activations[:, indices.index(checkpoint_index)] = at_checkpoint[not_first].to(self._dtype)
            finished.append(checkpoint_index)
            if self._on_harvest is not None:
                self._on_harvest(len(finished) * len(activations), len(indices) * len(activations))

        self.checkpoints.each(read, indices)
        return activations
