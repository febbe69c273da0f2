"""Divergence of a model's predictions from the unigram and bigram statistics of a corpus, across training."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.errors import CorpusError
from crosstime.machine.progress import track
from crosstime.suites.check_length import check_length
from crosstime.suites.checkpoints import COLUMN_DTYPES
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import documents, sequences
from crosstime.suites.ngrams import Ngrams
from crosstime.suites.read_lines import TextSource
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from interventions import Model, Sequences, reduce_predictions

_COLUMNS = (
    "loss",
    "unigram_kl",
    "bigram_kl",
    "unigram_entropy",
    "bigram_entropy",
    "unigram_loss",
    "bigram_loss",
)


def ngram_divergence(
    suite: Suite,
    corpus: TextSource | Iterable[str],
    sample: TextSample = TextSample(n_sequences=64),
    *,
    counted_sequences: int | None = None,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Compare the predictions of every checkpoint with the unigram and bigram statistics of a corpus.

    Early in training a model learns these statistics; where its loss falls below their entropy, it has learned more.
    The models read the first sequences of the corpus, and the statistics are counted on the text after them, so that
    they have seen no more of the text that is predicted than the models.

    Args:
        suite: the checkpoints.
        corpus: a text source as for `crosstime.train`, or documents.
        sample: the text that the models read.
        counted_sequences: number of sequences that are counted; None counts all the remaining text.
        compute: how the checkpoints are run.

    Returns:
        One row for each checkpoint, in nats, means over the predicted tokens: revision, step, tokens, loss; unigram_kl
        and bigram_kl, KL(prediction of the model || statistics); unigram_entropy and bigram_entropy of the statistics
        at the same positions; unigram_loss and bigram_loss, the cross-entropy of the statistics on the same text.

    Raises:
        CorpusError: the text is too short to be read and counted.
        SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.

    Source: Evolution of Concepts in Language Model Pre-Training (arXiv 2509.17196), the statistical learning phase.

    Examples:
        >>> ngram_divergence(suite, "corpus.txt.gz")  # doctest: +SKIP
    """
    if counted_sequences is not None and counted_sequences < 1:
        raise CorpusError(f"at least one sequence must be counted, not {counted_sequences}")

    # Check the checkpoints, read the sample, and count the text after it
    compute.verify(suite)
    lines, _ = documents(corpus)
    check_length(suite, sample.sequence_length)
    packed = sequences(lines, suite.tokenizer, sample.sequence_length, start=suite.start_tokens)
    text = Sequences([tuple(row.tolist()) for row in islice(packed, sample.n_sequences)])
    counted = list(islice(packed, counted_sequences))
    if not counted:
        raise CorpusError(
            f"the corpus ends with the {len(text)} sequences that the models read, so nothing is left to count: give "
            "more text or fewer sequences"
        )
    config = suite.config(suite.revisions[0])
    vocab_size = max(int(config.get_text_config().vocab_size), len(suite.tokenizer))
    ngrams = Ngrams.count(counted, vocab_size)

    # Compare the predictions of every checkpoint with the statistics
    with track("Predictions", len(suite), "checkpoints") as bar:

        def read(index: int, model: Model) -> list[float]:
            bar.note(suite.revisions[index])
            # Rows of the unembedding beyond the tokenizer's vocabulary are never seen in text.
            size = min(model.vocab_size, vocab_size)

            def compare(log_probs: Float[Tensor, "N W"], positions: Int[Tensor, " N"]) -> Float[Tensor, "N K"]:
                log_probs = log_probs[:, :size].cpu().double()
                return _divergences(log_probs, text.tokens[positions - 1], text.tokens[positions], ngrams)

            values = reduce_predictions(model, text, compare, len(_COLUMNS))
            bar.advance()
            return values[text.position_of_token > 0].double().mean(0).tolist()

        means = compute.each(suite, read)

    rows = [
        checkpoint.as_row() | dict(zip(_COLUMNS, values, strict=True))
        for checkpoint, values in zip(suite, means, strict=True)
    ]
    return pd.DataFrame(rows).astype(COLUMN_DTYPES)


def _divergences(
    log_probs: Float[Tensor, "N W"], before: Int[Tensor, " N"], token: Int[Tensor, " N"], ngrams: Ngrams
) -> Float[Tensor, "N K"]:
    """The columns of the table for N predictions of `token` after `before`; W may be smaller than the vocabulary."""
    size = log_probs.shape[1]
    probs, token = log_probs.exp(), token.unsqueeze(1)
    log_unigram = ngrams.unigram.log()
    bigram = ngrams.bigram(before)
    log_bigram = bigram.log()
    columns = [
        -log_probs.gather(1, token),
        (probs * (log_probs - log_unigram[:size])).sum(1, keepdim=True),
        (probs * (log_probs - log_bigram[:, :size])).sum(1, keepdim=True),
        -(ngrams.unigram * log_unigram).sum().expand(len(token), 1),
        -(bigram * log_bigram).sum(1, keepdim=True),
        -log_unigram[token],
        -log_bigram.gather(1, token),
    ]
    return torch.cat(columns, 1)
