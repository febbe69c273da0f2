"""Unigram and bigram statistics of a corpus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.errors import CorpusError

UNIGRAM_PRIOR, BIGRAM_PRIOR = 0.01, 1.0


@dataclass(frozen=True, eq=False)
class Ngrams:
    """Smoothed unigram and bigram distributions of a tokenized corpus; made by `Ngrams.count`.

    ::

        u(v)     = (n_v + a) / (n + a V)                    a = 0.01
        b(v | w) = (n_wv + c u(v)) / (n_w + c)              c = 1

    n_v counts token v, n_wv token v after token w, n_w all tokens after w. The priors keep every probability above
    zero, so that divergences are finite; after a token that was never followed by another, b is the unigram
    distribution.

    Attributes:
        unigram: u, of shape ``V``.
        rows: index in `followers` at which the followers of each token begin, of shape ``V + 1``.
        followers: tokens seen after each token, token by token.
        counts: number of times that each follower was seen.
    """

    unigram: Float[Tensor, " V"]
    rows: Int[Tensor, " R"]
    followers: Int[Tensor, " N"]
    counts: Float[Tensor, " N"]

    @classmethod
    def count(cls, text: Iterable[Int[Tensor, " S"]] | Sequence[Sequence[int]], vocab_size: int) -> Ngrams:
        """Count the tokens of sequences, and the pairs of neighbours within each sequence.

        Args:
            text: sequences of token ids.
            vocab_size: number of tokens, V.

        Raises:
            CorpusError: the text is empty, or has a token outside the vocabulary.

        Examples:
            >>> ngrams = Ngrams.count([[0, 1, 0, 1, 2]], vocab_size=3)
            >>> ngrams.bigram(torch.tensor([0]))[0].argmax().item()
            1
        """
        # Count tokens, and list all pairs as numbers w * V + v
        token_counts = torch.zeros(vocab_size, dtype=torch.float64)
        pairs: list[Tensor] = []
        for sequence in text:
            ids = torch.as_tensor(sequence)
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
                raise CorpusError(f"the text has a token outside the vocabulary of {vocab_size} tokens")
            token_counts += torch.bincount(ids, minlength=vocab_size)
            pairs.append(ids[:-1].long() * vocab_size + ids[1:])
        if not token_counts.sum():
            raise CorpusError("there is no text to count tokens in")

        # Count each pair, sorted by its first token
        keys, counts = torch.cat(pairs).unique(return_counts=True)
        rows = torch.searchsorted(keys, torch.arange(vocab_size + 1) * vocab_size)
        unigram = (token_counts + UNIGRAM_PRIOR) / (token_counts.sum() + UNIGRAM_PRIOR * vocab_size)
        return cls(unigram, rows, keys % vocab_size, counts.double())

    def bigram(self, before: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        """The distribution of the token that follows each token of `before`, one row for each."""
        # Find the followers of every token: row n, and their indices in `followers`
        starts, ends = self.rows[before], self.rows[before + 1]
        lengths = ends - starts
        row = torch.arange(len(before)).repeat_interleave(lengths)
        index = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths)[row] + starts[row]

        # Smooth their counts
        counts = torch.zeros(len(before), len(self.unigram), dtype=torch.float64)
        counts[row, self.followers[index]] = self.counts[index]
        return (counts + BIGRAM_PRIOR * self.unigram) / (counts.sum(1, keepdim=True) + BIGRAM_PRIOR)
