"""The activations that a crosscoder is trained on: computed on the fly from a text, or read from a store."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from crosstime.activations.buffer import ActivationBuffer, ShuffledBuffer
from crosstime.activations.buffer_state import BufferState
from crosstime.activations.data_config import DataConfig
from crosstime.activations.row_format import RowFormat
from crosstime.activations.store import ActivationStore
from crosstime.errors import CrosscoderError
from crosstime.machine.mesh import NO_MESH, Mesh
from crosstime.machine.processes import processes_here
from crosstime.machine.progress import track
from crosstime.suites.check_length import check_length
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import documents, sequences
from crosstime.suites.read_lines import TextSource
from crosstime.suites.resident_checkpoints import ResidentCheckpoints
from crosstime.suites.suite import Suite
from crosstime.training.held_out_documents import ValidationBatch, held_out_documents, without_held_out
from interventions import Site


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Training and validation batches of one training run.

    Attributes:
        suite: the C checkpoints.
        site: where activations are read.
        corpus: text files, a Hub data set, documents, or a store of activations; see `crosstime.train`.
        config: batch size, sequence length, buffer, validation fraction and seed.
        limit: total number of tokens to train on.
        compute: how the checkpoints are run.
        mesh: the processes that train together.
        reserved: bytes on the device of the checkpoints that the crosscoder's weights and optimizer need.

    Raises:
        CrosscoderError: the processes cannot share a batch evenly, or a validation fraction is given with a store.
        StoreError: the store is of other checkpoints, of other weights under the same names, or of another site.
    """

    suite: Suite
    site: Site
    corpus: TextSource | Iterable[str] | ActivationStore
    config: DataConfig
    limit: int
    compute: Compute
    mesh: Mesh = NO_MESH
    reserved: int = 0

    def __post_init__(self) -> None:
        if self.config.batch_size % self.mesh.data.size:
            raise CrosscoderError(
                f"{self.mesh.data.size} processes cannot share a batch of {self.config.batch_size:,} tokens evenly."
            )
        if not isinstance(self.corpus, ActivationStore):
            check_length(self.suite, self.config.sequence_length)
        else:
            if self.config.validation:
                raise CrosscoderError("A store of activations has no documents to hold out: validation must be 0.")
            self.corpus.refuse_other(self.suite, self.site)

    @cached_property
    def checkpoints(self) -> ResidentCheckpoints:
        """The checkpoints, of which those that fit in memory stay open from one filling of the buffer to the next."""
        config, compute = self.config, self.compute
        # The buffer is there twice while it is filled, once for all processes of this machine
        row_bytes = RowFormat(config.buffer_dtype).row_bytes(self.suite.d_model)
        buffer = 2 * config.buffer_tokens * len(self.suite) * row_bytes // processes_here()
        reserved = self.reserved + (buffer if compute.torch_device.type == "cpu" else 0)
        return ResidentCheckpoints(compute, self.suite, reserved=reserved)

    def close(self) -> None:
        """Free the memory of the checkpoints."""
        if not isinstance(self.corpus, ActivationStore):
            self.checkpoints.close()

    def batches(self, state: BufferState | None = None) -> ShuffledBuffer:
        """Training batches, from the beginning or from where another training run stopped.

        Args:
            state: state of that run's batches.

        Raises:
            CrosscoderError: the corpus has fewer tokens than a batch, or is not the one that `state` belongs to.
            CorpusError: the text cannot be read.
        """
        # The buffer holds at least one batch, and never more than the whole training run needs.
        buffer_tokens = min(max(self.config.buffer_tokens, self.config.batch_size), self.limit)
        config = replace(self.config, buffer_tokens=buffer_tokens)
        if isinstance(self.corpus, ActivationStore):
            return self.corpus.batches(config, limit=self.limit, repeat=True, state=state, processes=self.mesh.everyone)

        # Leave out the held-out documents. A text in memory is shuffled and repeated, a stream is read once in order.
        lines, in_memory = self._documents
        if self.config.validation:
            lines = without_held_out(lines, self.config.validation)
        if in_memory:
            lines = list(lines)
            check_tokens(lines, self.suite, self.config)
        token_ids = sequences(
            lines,
            self.suite.tokenizer,
            self.config.sequence_length,
            start=self.suite.start_tokens,
            seed=self.config.seed,
            repeat=in_memory,
            shuffle=in_memory,
        )

        # Run the checkpoints on the text.
        with track("Reading activations", None, "tokens") as bar:
            return ActivationBuffer(
                self.suite,
                self.site,
                token_ids,
                config,
                compute=self.checkpoints,
                limit=self.limit,
                state=state,
                processes=self.mesh.everyone,
                on_harvest=bar.update,
            )

    def validation_batch(self) -> ValidationBatch | None:
        """One batch of activations of the held-out documents; None without a validation fraction.

        Raises:
            CorpusError: no document is held out, or they do not fill a sequence.
            CrosscoderError: they have fewer tokens than a batch.
        """
        if not self.config.validation:
            return None

        # Read the held-out documents; a stream is opened a second time, because the first one is read by `batches`.
        lines, in_memory = self._documents
        if not in_memory:
            lines, _ = documents(self._text)
        token_ids = sequences(
            held_out_documents(lines, self.config.validation),
            self.suite.tokenizer,
            self.config.sequence_length,
            start=self.suite.start_tokens,
        )

        # Fill a buffer of one batch.
        size = self.config.batch_size
        config = replace(self.config, buffer_tokens=size, buffer_dtype="float32")
        with warnings.catch_warnings():
            # The training batches warn of tokens of huge norm
            warnings.filterwarnings("ignore", message="a few tokens are of huge norm")
            buffer = ActivationBuffer(
                self.suite,
                self.site,
                token_ids,
                config,
                compute=self.checkpoints,
                limit=size,
                processes=self.mesh.everyone,
            )
        x = next(buffer, None)
        if x is None:
            raise CrosscoderError(
                f"The held-out documents give {buffer.tokens:,} tokens, fewer than a batch of {size:,}: hold out more "
                f"than {self.config.validation:g} of them, or take a smaller batch."
            )
        return ValidationBatch(x)

    @property
    def _text(self) -> TextSource | Iterable[str]:
        if isinstance(self.corpus, ActivationStore):
            raise CrosscoderError("A store of activations has no documents.")
        return self.corpus

    @cached_property
    def _documents(self) -> tuple[Iterable[str], bool]:
        """The documents, and whether all of them are in memory."""
        lines, in_memory = documents(self._text)
        return (list(lines), True) if in_memory else (lines, False)


def check_tokens(lines: Iterable[str], suite: Suite, config: DataConfig) -> None:
    """Reject documents that do not fill a batch in the tokens of a suite.

    Raises:
        CrosscoderError: says how many tokens they give.
        CorpusError: they do not fill a sequence.
    """
    n_tokens = 0
    for sequence in sequences(lines, suite.tokenizer, config.sequence_length, start=suite.start_tokens):
        n_tokens += len(sequence) - 1
        if n_tokens >= config.batch_size:
            return
    raise CrosscoderError(
        f"The corpus gives {n_tokens:,} tokens, fewer than a batch of {config.batch_size:,}: give more text, or take a "
        "smaller batch."
    )
