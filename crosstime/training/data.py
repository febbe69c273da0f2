"""Where a training's activations come from: made on the fly from a text, or read from a store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from crosstime.activations.buffer import ActivationBuffer, BufferState
from crosstime.activations.store import ActivationStore
from crosstime.errors import CrosscoderError
from crosstime.machine.processes import ALONE, Processes
from crosstime.machine.progress import track
from crosstime.suites.compute import DTYPES, Compute
from crosstime.suites.corpus import TextSource, documents, sequences
from crosstime.suites.suite import Suite
from crosstime.training.held_out import HeldOut, held_out, without_held_out
from crosstime.training.loop import Batches
from interventions import Site
from user_input.nearest import nearest


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What a training is fed with; the arguments are those of `crosstime.train`.

    Attributes:
        limit: tokens that training takes in all.
        processes: those that harvest together.

    Raises:
        CrosscoderError: an option out of range, or a validation share with a store.
        StoreError: a store of other checkpoints, of other weights under the same names, or of another site.
    """

    suite: Suite
    site: Site
    corpus: TextSource | Iterable[str] | ActivationStore
    batch_size: int
    sequence_length: int
    buffer_tokens: int
    buffer_dtype: str
    validation: float
    limit: int
    seed: int
    compute: Compute
    processes: Processes = ALONE

    def __post_init__(self) -> None:
        if self.sequence_length < 2:
            raise CrosscoderError(
                f"Sequences need at least 2 tokens, not {self.sequence_length}: the first of each is left out of "
                "training."
            )
        if self.batch_size < 1:
            raise CrosscoderError(f"A batch needs at least one token, not {self.batch_size}.")
        if self.batch_size % self.processes.size:
            raise CrosscoderError(
                f"{self.processes.size} processes cannot share a batch of {self.batch_size:,} tokens evenly."
            )
        if self.buffer_dtype not in DTYPES:
            raise CrosscoderError(
                f"There is no buffer_dtype {self.buffer_dtype!r}: {nearest(self.buffer_dtype, DTYPES)}"
            )
        if not 0 <= self.validation < 1:
            raise CrosscoderError(
                f"validation is a share of the documents, at least 0 and below 1, not {self.validation}."
            )
        if isinstance(self.corpus, ActivationStore):
            if self.validation:
                raise CrosscoderError("A store of activations has no documents to hold out: validation must be 0.")
            self.corpus.refuse_other(self.suite, self.site)

    def batches(self, state: BufferState | None = None) -> Batches:
        """The batches to train on, from the beginning or from where another training was.

        Raises:
            CrosscoderError: the corpus has fewer tokens than a batch, or is another than the state's.
            CorpusError: text that cannot be read.
        """
        held = {
            "batch_size": self.batch_size, "capacity": min(max(self.buffer_tokens, self.batch_size), self.limit),
            "limit": self.limit, "seed": self.seed, "dtype": DTYPES[self.buffer_dtype], "state": state,
        }  # fmt: skip
        if isinstance(self.corpus, ActivationStore):
            return self.corpus.batches(repeat=True, **held)
        lines, kept = self._text
        if self.validation:
            lines = without_held_out(lines, self.validation)
        if kept:
            lines = list(lines)
            self._refuse_shorter_than_a_batch(lines)
        rows = sequences(lines, self.suite.tokenizer, self.sequence_length, seed=self.seed, repeat=kept, shuffle=kept)
        with track("Reading activations", None) as bar:
            return ActivationBuffer(
                self.suite, self.site, rows, compute=self.compute, on_harvest=bar.of, processes=self.processes, **held
            )

    def held_out(self) -> HeldOut | None:
        """A batch of activations of documents that training does not see; None without a validation share.

        Raises:
            CorpusError: no document is held out, or they do not fill a sequence.
            CrosscoderError: they have fewer tokens than a batch.
        """
        if not self.validation:
            return None
        lines = documents(self.corpus)[0] if not self._text[1] else self._text[0]
        rows = sequences(held_out(lines, self.validation), self.suite.tokenizer, self.sequence_length)
        size = self.batch_size
        buffer = ActivationBuffer(
            self.suite, self.site, rows, batch_size=size, capacity=size, limit=size, compute=self.compute,
            seed=self.seed, processes=self.processes,
        )  # fmt: skip
        x = next(buffer, None)
        if x is None:
            raise CrosscoderError(
                f"The held-out documents give {buffer.tokens:,} tokens, fewer than a batch of {size:,}: hold out more "
                f"than {self.validation:g} of them, or take a smaller batch."
            )
        return HeldOut(x)

    @cached_property
    def _text(self) -> tuple[Iterable[str], bool]:
        """The documents, and whether all of them are in memory."""
        lines, kept = documents(self.corpus)
        return (list(lines), True) if kept else (lines, False)

    def _refuse_shorter_than_a_batch(self, lines: list[str]) -> None:
        tokens = 0
        for row in sequences(lines, self.suite.tokenizer, self.sequence_length):
            tokens += len(row) - 1
            if tokens >= self.batch_size:
                return
        raise CrosscoderError(
            f"The corpus gives {tokens:,} tokens, fewer than a batch of {self.batch_size:,}: give more text, or take a "
            "smaller batch."
        )
