"""Activations of some text at every checkpoint of a crosscoder, on the same tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from crosstime.compute import Compute
from crosstime.corpus import TextSource, documents, sequences
from crosstime.crosscoder import CrossCoder
from crosstime.errors import CorpusError
from crosstime.progress import track
from crosstime.showing import Shown
from crosstime.splicing import fitting
from crosstime.suite import Suite
from interventions import Codes, Decomposition, Sequences, fetch


@dataclass(frozen=True, eq=False, repr=False)
class ReadText(Shown):
    """Sequences of tokens, decomposed into a crosscoder's features at every checkpoint.

    Attributes:
        text: the sequences.
        decomposed: one decomposition a checkpoint, of all tokens but each sequence's first, whose activation is of
            another size and was left out of training.
        later: which tokens of `text` these are.
    """

    text: Sequences
    decomposed: tuple[Decomposition, ...]
    later: Bool[Tensor, " T"]

    def headline(self) -> str:
        """How much text, and how many features fire on a token of it."""
        codes = self.codes
        return (
            f"{len(self.text):,} sequences, {codes.n_tokens:,} tokens, at {len(self.decomposed)} checkpoints; "
            f"{codes.l0:.1f} of {codes.n_features:,} features fire on a token"
        )

    @property
    def codes(self) -> Codes:
        """The features' activations on those tokens, the same for all checkpoints."""
        return self.decomposed[0].codes

    @property
    def tokens(self) -> Int[Tensor, " N"]:
        """Ids of those tokens."""
        return self.text.tokens[self.later]

    @property
    def previous(self) -> Int[Tensor, " N"]:
        """Ids of the tokens before them."""
        return self.text.tokens[self.later.nonzero().squeeze(1) - 1]


def read_text(
    suite: Suite,
    crosscoder: CrossCoder,
    corpus: TextSource | Iterable[str] | Sequences,
    *,
    n_sequences: int = 128,
    sequence_length: int = 64,
    compute: Compute = Compute(),
    progress: bool | None = None,
) -> ReadText:
    """Read text at every checkpoint of a crosscoder, one model at a time, and decompose it into features.

    The activations of all checkpoints, C T D numbers, are held in memory.

    Args:
        suite, crosscoder: as for `attribute`.
        corpus: as for `train`, of which the first sequences are read; or the sequences themselves.
        n_sequences, sequence_length: how much of a corpus.
        compute: how the checkpoints are run.
        progress: show a bar; None shows it when a person watches.

    Raises:
        CorpusError: sequences of fewer than two tokens, none, or a text that does not fill one.
        CrosscoderError: the crosscoder was trained on other checkpoints or another width.

    Examples:
        >>> text = read_text(suite, crosscoder, "corpus.txt.gz")  # doctest: +SKIP
        >>> text.codes.n_tokens == int(text.later.sum())  # doctest: +SKIP
        True
    """
    text = corpus if isinstance(corpus, Sequences) else _packed(suite, corpus, n_sequences, sequence_length)
    chosen = fitting(suite, crosscoder)
    site, later = crosscoder.origin.site, text.position_of_token > 0
    activations = torch.empty(len(chosen), int(later.sum()), chosen.d_model)
    with track("Reading text", len(chosen), shown=progress) as bar:
        for c, checkpoint in enumerate(chosen):
            bar.note(checkpoint.revision)
            with compute.open(chosen, checkpoint.revision) as model:
                activations[c] = fetch(model, text, [site], max_tokens=compute.max_tokens)[site][later]
            bar.advance()
    return ReadText(text, tuple(crosscoder.decompose(activations)), later)


def _packed(suite: Suite, corpus: TextSource | Iterable[str], n_sequences: int, sequence_length: int) -> Sequences:
    if n_sequences < 1 or sequence_length < 2:
        raise CorpusError(f"reading needs at least one sequence of two tokens, not {n_sequences} of {sequence_length}")
    lines, _ = documents(corpus)
    rows = islice(sequences(lines, suite.tokenizer, sequence_length), n_sequences)
    return Sequences([tuple(row.tolist()) for row in rows])
