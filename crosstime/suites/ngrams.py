"""Unigram and bigram statistics of a corpus, and how far a model's predictions are from them across training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.errors import CorpusError
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import TextSource, documents, sequences
from crosstime.suites.suite import Suite
from interventions import Model, Sequences, reduce_predictions

UNIGRAM_PRIOR, BIGRAM_PRIOR = 0.01, 1.0


@dataclass(frozen=True, eq=False)
class Ngrams:
    """Smoothed unigram and bigram distributions of a tokenized corpus. Make one with `Ngrams.count`.

    ::

        u(v)     = (n_v + a) / (n + a V)                    a = 0.01
        b(v | w) = (n_wv + c u(v)) / (n_w + c)              c = 1

    n_v counts a token, n_wv a token behind another, n_w all tokens behind w. The priors keep every probability above
    zero, so that divergences are finite; a token that was never followed by another falls back to the unigram.

    Attributes:
        unigram: u, ``V`` numbers.
        rows: where each token's followers begin in `followers`, ``V + 1`` numbers.
        followers, counts: the tokens seen behind each token, and how often.
    """

    unigram: Float[Tensor, " V"]
    rows: Int[Tensor, " R"]
    followers: Int[Tensor, " N"]
    counts: Float[Tensor, " N"]

    @classmethod
    def count(cls, text: Iterable[Int[Tensor, " S"]] | Sequence[Sequence[int]], vocab_size: int) -> Ngrams:
        """Count the tokens of sequences, and the pairs of neighbours within a sequence.

        Raises:
            CorpusError: there is no token, or one outside the vocabulary.

        Examples:
            >>> ngrams = Ngrams.count([[0, 1, 0, 1, 2]], vocab_size=3)
            >>> ngrams.bigram(torch.tensor([0]))[0].argmax().item()
            1
        """
        singles = torch.zeros(vocab_size, dtype=torch.float64)
        pairs: list[Tensor] = []
        for row in text:
            ids = torch.as_tensor(row)
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
                raise CorpusError(f"the text has a token outside the vocabulary of {vocab_size} tokens")
            singles += torch.bincount(ids, minlength=vocab_size)
            pairs.append(ids[:-1].long() * vocab_size + ids[1:])
        if not singles.sum():
            raise CorpusError("there is no text to count tokens in")
        keys, counts = torch.cat(pairs).unique(return_counts=True)
        rows = torch.searchsorted(keys, torch.arange(vocab_size + 1) * vocab_size)
        unigram = (singles + UNIGRAM_PRIOR) / (singles.sum() + UNIGRAM_PRIOR * vocab_size)
        return cls(unigram, rows, keys % vocab_size, counts.double())

    def bigram(self, before: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        """The distribution of the token behind each of `before`, one row each."""
        starts, ends = self.rows[before], self.rows[before + 1]
        lengths = ends - starts
        row = torch.arange(len(before)).repeat_interleave(lengths)
        place = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths)[row] + starts[row]
        seen = torch.zeros(len(before), len(self.unigram), dtype=torch.float64)
        seen[row, self.followers[place]] = self.counts[place]
        return (seen + BIGRAM_PRIOR * self.unigram) / (seen.sum(1, keepdim=True) + BIGRAM_PRIOR)


def ngram_divergence(
    suite: Suite,
    corpus: TextSource | Iterable[str],
    *,
    n_sequences: int = 64,
    sequence_length: int = 64,
    counted_sequences: int | None = None,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """How near each checkpoint's predictions are to the corpus' unigram and bigram statistics.

    Early in training a model learns these; where its loss falls below their entropy it has learned more. The first
    `n_sequences` of the corpus are what the model reads; the statistics are counted on what follows, so that they do
    not know the text any better than the model does.

    Args:
        suite: whose checkpoints.
        corpus: as for `crosstime.train`.
        n_sequences, sequence_length: text that the models read.
        counted_sequences: how much of the corpus is counted; None counts all the rest.
        compute: how the checkpoints are run.

    Returns:
        One row a checkpoint, in nats, each a mean over the predicted tokens: revision, step, tokens, loss,
        unigram_kl and bigram_kl, KL(model's prediction || statistics), unigram_entropy and bigram_entropy, of the
        statistics at the same places, unigram_loss and bigram_loss, their cross-entropy on the same text.

    Raises:
        CorpusError: the text is too short to be read and counted.
        SuiteError: the checkpoints' tokenizers differ.

    Source: EoC (arXiv 2509.17196), the statistical learning phase.

    Examples:
        >>> ngram_divergence(suite, "corpus.txt.gz")  # doctest: +SKIP
    """
    if sequence_length < 2 or n_sequences < 1:
        raise CorpusError("reading needs at least one sequence of two tokens")
    if counted_sequences is not None and counted_sequences < 1:
        raise CorpusError(f"at least one sequence must be counted, not {counted_sequences}")
    lines, _ = documents(corpus)
    packed = sequences(lines, suite.tokenizer, sequence_length)
    text = Sequences([tuple(row.tolist()) for row in islice(packed, n_sequences)])
    first, *_ = suite.revisions
    vocab_size = max(int(suite.config(first).get_text_config().vocab_size), len(suite.tokenizer))
    counted = list(islice(packed, counted_sequences))
    if not counted:
        raise CorpusError(
            f"the corpus ends with the {len(text)} sequences that the models read, so nothing is left to count: give "
            "more text or fewer sequences"
        )
    ngrams = Ngrams.count(counted, vocab_size)
    log_unigram = ngrams.unigram.log()
    with track("Predictions", len(suite)) as bar:

        def read(c: int, model: Model) -> list[float]:
            bar.note(suite.revisions[c])
            size = min(model.vocab_size, vocab_size)

            def measure(log_probs: Float[Tensor, "N W"], tokens: Int[Tensor, " N"]) -> Tensor:
                # Rows of the unembedding beyond the tokenizer's vocabulary are never seen in text.
                model_log = log_probs[:, :size].cpu().double()
                token = text.tokens[tokens].unsqueeze(1)
                bigram = ngrams.bigram(text.tokens[tokens - 1])
                log_bigram = bigram.log()
                probs = model_log.exp()
                columns = [
                    -model_log.gather(1, token),
                    (probs * (model_log - log_unigram[:size])).sum(1, keepdim=True),
                    (probs * (model_log - log_bigram[:, :size])).sum(1, keepdim=True),
                    -(ngrams.unigram * log_unigram).sum().expand(len(tokens), 1),
                    -(bigram * log_bigram).sum(1, keepdim=True),
                    -log_unigram[token],
                    -log_bigram.gather(1, token),
                ]
                return torch.cat(columns, 1)

            found = reduce_predictions(model, text, measure, len(_COLUMNS))
            bar.advance()
            return found[text.position_of_token > 0].double().mean(0).tolist()

        means = compute.each(suite, read)
    rows = [
        {"revision": checkpoint.revision, "step": checkpoint.step, "tokens": checkpoint.tokens}
        | dict(zip(_COLUMNS, of_one, strict=True))
        for checkpoint, of_one in zip(suite, means, strict=True)
    ]
    return pd.DataFrame(rows).astype({"step": "Int64", "tokens": "Int64"})


_COLUMNS = (
    "loss", "unigram_kl", "bigram_kl", "unigram_entropy", "bigram_entropy", "unigram_loss", "bigram_loss",
)  # fmt: skip
