"""Counts of tokens and of pairs, against counts worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crosstime.errors import CorpusError
from crosstime.suites.ngrams import Ngrams


def test_unigrams_and_bigrams_of_five_tokens_are_as_worked_by_hand():
    ngrams = Ngrams.count([[0, 1, 0, 1, 2]], vocab_size=4)
    # Counts 2, 2, 1, 0 of 5 tokens, with 0.01 more each: sums to 5.04.
    u = np.array([2.01, 2.01, 1.01, 0.01]) / 5.04
    assert ngrams.unigram.numpy() == pytest.approx(u)
    # Behind 0 came 1 twice; behind 1 came 0 and 2 once each; behind 2 and 3 came nothing.
    b = [
        np.array([u[0], 2 + u[1], u[2], u[3]]) / 3,
        np.array([1 + u[0], u[1], 1 + u[2], u[3]]) / 3,
        u,
        u,
    ]
    assert ngrams.bigram(torch.tensor([0, 1, 2, 3])).numpy() == pytest.approx(np.stack(b))
    assert ngrams.bigram(torch.tensor([3, 1, 1, 0])).numpy() == pytest.approx(np.stack([b[3], b[1], b[1], b[0]]))


def test_a_pair_across_two_sequences_is_not_counted():
    apart = Ngrams.count([[0, 1], [2, 0]], vocab_size=3)
    assert apart.bigram(torch.tensor([1]))[0].tolist() == pytest.approx(apart.unigram.tolist())
    together = Ngrams.count([torch.tensor([0, 1, 2, 0])], vocab_size=3)
    assert together.unigram.tolist() == apart.unigram.tolist()
    assert together.bigram(torch.tensor([1]))[0, 2] == pytest.approx((1 + together.unigram[2].item()) / 2)


def test_text_that_cannot_be_counted_is_named():
    with pytest.raises(CorpusError, match="there is no text to count tokens in"):
        Ngrams.count([], vocab_size=3)
    for ids in ([0, 3], [-1, 2]):
        with pytest.raises(CorpusError, match="outside the vocabulary of 3 tokens"):
            Ngrams.count([[0, 1], ids], vocab_size=3)
