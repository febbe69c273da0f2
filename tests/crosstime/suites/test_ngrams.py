"""Counts worked by hand, and divergences against loops over the predictions of the bare models."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from crosstime.errors import CorpusError
from crosstime.suites.corpus import sequences
from crosstime.suites.ngrams import Ngrams, ngram_divergence
from crosstime.suites.suite import Suite
from crosstime.suites.tiny import TinyConfig, train_tiny_suite
from tasks.agreement import sentences

SMALL = TinyConfig(
    d_model=16, n_layers=1, n_heads=2, vocab_size=400, sequence_length=16, batch_tokens=64,
    steps=8, checkpoints=(0, 8), lr=1e-2, warmup=2,
)  # fmt: skip
TEXT = list(sentences(60, seed=3))
READ, LENGTH, COUNTED = 3, 7, 20


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Suite:
    folder = tmp_path_factory.mktemp("ngrams") / "mine"
    return train_tiny_suite(folder, sentences(400, seed=0), SMALL)


@pytest.fixture(scope="module")
def table(suite: Suite) -> pd.DataFrame:
    return ngram_divergence(suite, TEXT, n_sequences=READ, sequence_length=LENGTH, counted_sequences=COUNTED)


def test_unigrams_and_bigrams_of_five_tokens_are_as_worked_by_hand():
    found = Ngrams.count([[0, 1, 0, 1, 2]], vocab_size=4)
    # Counts 2, 2, 1, 0 of 5 tokens, with 0.01 more each: sums to 5.04.
    u = np.array([2.01, 2.01, 1.01, 0.01]) / 5.04
    assert found.unigram.numpy() == pytest.approx(u)
    # Behind 0 came 1 twice; behind 1 came 0 and 2 once each; behind 2 and 3 came nothing.
    b = [
        np.array([u[0], 2 + u[1], u[2], u[3]]) / 3,
        np.array([1 + u[0], u[1], 1 + u[2], u[3]]) / 3,
        u,
        u,
    ]
    assert found.bigram(torch.tensor([0, 1, 2, 3])).numpy() == pytest.approx(np.stack(b))
    assert found.bigram(torch.tensor([3, 1, 1, 0])).numpy() == pytest.approx(np.stack([b[3], b[1], b[1], b[0]]))


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


def expected(suite: Suite, revision: str) -> dict[str, float]:
    """Every column from plain counts and a softmax in float64, one token at a time."""
    rows = [row.tolist() for row in sequences(TEXT, suite.tokenizer, LENGTH)]
    read, counted = rows[:READ], rows[READ : READ + COUNTED]
    model = AutoModelForCausalLM.from_pretrained(suite[revision].source, dtype=torch.float32).eval()
    size = model.config.vocab_size
    single, pair = Counter(token for row in counted for token in row), Counter()
    for row in counted:
        pair.update(pairwise(row))
    total = sum(single.values())
    u = [(single[v] + 0.01) / (total + 0.01 * size) for v in range(size)]
    sums: Counter[str] = Counter()
    for row in read:
        with torch.no_grad():
            logits = model(torch.tensor([row])).logits[0].double().numpy()
        for place in range(1, len(row)):
            before, token = row[place - 1], row[place]
            behind = sum(count for (first, _), count in pair.items() if first == before)
            b = [(pair[before, v] + u[v]) / (behind + 1) for v in range(size)]
            p = np.exp(logits[place - 1] - np.logaddexp.reduce(logits[place - 1]))
            sums["loss"] -= math.log(p[token])
            sums["unigram_kl"] += sum(p[v] * math.log(p[v] / u[v]) for v in range(size))
            sums["bigram_kl"] += sum(p[v] * math.log(p[v] / b[v]) for v in range(size))
            sums["unigram_entropy"] -= sum(u[v] * math.log(u[v]) for v in range(size))
            sums["bigram_entropy"] -= sum(b[v] * math.log(b[v]) for v in range(size))
            sums["unigram_loss"] -= math.log(u[token])
            sums["bigram_loss"] -= math.log(b[token])
    return {name: value / (READ * (LENGTH - 1)) for name, value in sums.items()}


def test_every_column_is_as_loops_over_the_bare_models_find(suite: Suite, table: pd.DataFrame):
    assert table.revision.tolist() == ["step0", "step8"]
    assert table.step.tolist() == [0, 8]
    assert table.tokens.tolist() == [0, 8 * 64]
    for row in table.to_dict("records"):
        found = expected(suite, row["revision"])
        assert list(row)[3:] == list(found)
        assert {name: row[name] for name in found} == pytest.approx(found, abs=1e-4)


def test_training_brings_the_loss_down_and_the_statistics_stay(table: pd.DataFrame):
    first, last = table.to_dict("records")
    assert last["loss"] < first["loss"]
    for name in ("unigram_entropy", "bigram_entropy", "unigram_loss", "bigram_loss"):
        assert first[name] == last[name]
    assert first["unigram_kl"] > 0


def test_all_that_is_left_is_counted_unless_less_is_asked_for(suite: Suite):
    def run(counted: int | None) -> pd.DataFrame:
        return ngram_divergence(
            suite.select(["step8"]), TEXT, n_sequences=READ, sequence_length=LENGTH, counted_sequences=counted,
        )  # fmt: skip

    left = sum(1 for _ in sequences(TEXT, suite.tokenizer, LENGTH)) - READ
    assert run(None).equals(run(left))
    assert not run(None).equals(run(left - 1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sequence_length": 1}, "at least one sequence of two tokens"),
        ({"n_sequences": 0}, "at least one sequence of two tokens"),
        ({"n_sequences": 10_000, "sequence_length": 8}, "nothing is left to count"),
        (
            {"n_sequences": 2, "sequence_length": 8, "counted_sequences": 0},
            "at least one sequence must be counted, not 0",
        ),
    ],
)
def test_too_little_text_is_named(suite: Suite, options: dict[str, int], said: str):
    with pytest.raises(CorpusError, match=said):
        ngram_divergence(suite, TEXT, **options)
