"""Divergences from n-gram statistics, against loops over the predictions of the bare models."""

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
from crosstime.suites.ngram_divergence import ngram_divergence
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from crosstime.suites.tiny_config import TinyConfig
from crosstime.suites.train_tiny_suite import train_tiny_suite
from tasks.agreement import sentences

SMALL = TinyConfig(
    d_model=16,
    n_layers=1,
    n_heads=2,
    vocab_size=400,
    sequence_length=16,
    batch_tokens=64,
    steps=8,
    checkpoints=(0, 8),
    lr=1e-2,
    warmup=2,
)
TEXT = list(sentences(60, seed=3))
READ, LENGTH, COUNTED = 3, 7, 20


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Suite:
    folder = tmp_path_factory.mktemp("ngrams") / "mine"
    return train_tiny_suite(folder, sentences(400, seed=0), SMALL)


@pytest.fixture(scope="module")
def table(suite: Suite) -> pd.DataFrame:
    return ngram_divergence(suite, TEXT, TextSample(READ, LENGTH), counted_sequences=COUNTED)


def expected(suite: Suite, revision: str) -> dict[str, float]:
    """Every column from plain counts and a softmax in float64, one token at a time."""
    # Count tokens and pairs
    rows = [row.tolist() for row in sequences(TEXT, suite.tokenizer, LENGTH)]
    read, counted = rows[:READ], rows[READ : READ + COUNTED]
    model = AutoModelForCausalLM.from_pretrained(suite[revision].source, dtype=torch.float32).eval()
    size = model.config.vocab_size
    single, pair = Counter(token for row in counted for token in row), Counter()
    for row in counted:
        pair.update(pairwise(row))
    total = sum(single.values())
    u = [(single[v] + 0.01) / (total + 0.01 * size) for v in range(size)]

    # Add up the columns, prediction by prediction
    sums: Counter[str] = Counter()
    for row in read:
        with torch.no_grad():
            logits = model(torch.tensor([row])).logits[0].double().numpy()
        for position in range(1, len(row)):
            before, token = row[position - 1], row[position]
            behind = sum(count for (first, _), count in pair.items() if first == before)
            b = [(pair[before, v] + u[v]) / (behind + 1) for v in range(size)]
            p = np.exp(logits[position - 1] - np.logaddexp.reduce(logits[position - 1]))
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
        columns = expected(suite, row["revision"])
        assert list(row)[3:] == list(columns)
        assert {name: row[name] for name in columns} == pytest.approx(columns, abs=1e-4)


def test_training_brings_the_loss_down_and_the_statistics_stay(table: pd.DataFrame):
    first, last = table.to_dict("records")
    assert last["loss"] < first["loss"]
    for name in ("unigram_entropy", "bigram_entropy", "unigram_loss", "bigram_loss"):
        assert first[name] == last[name]
    assert first["unigram_kl"] > 0


def test_all_that_is_left_is_counted_unless_less_is_asked_for(suite: Suite):
    def run(counted: int | None) -> pd.DataFrame:
        return ngram_divergence(
            suite.select(["step8"]),
            TEXT,
            TextSample(READ, LENGTH),
            counted_sequences=counted,
        )

    left = sum(1 for _ in sequences(TEXT, suite.tokenizer, LENGTH)) - READ
    assert run(None).equals(run(left))
    assert not run(None).equals(run(left - 1))


@pytest.mark.parametrize(
    ("sample", "counted", "message"),
    [
        (TextSample(10_000, 8), None, "nothing is left to count"),
        (TextSample(2, 8), 0, "at least one sequence must be counted, not 0"),
    ],
)
def test_too_little_text_is_named(suite: Suite, sample: TextSample, counted: int | None, message: str):
    with pytest.raises(CorpusError, match=message):
        ngram_divergence(suite, TEXT, sample, counted_sequences=counted)
