"""Likeness of checkpoints against numpy loops over activations of the bare models."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from crosstime.errors import CorpusError
from crosstime.suites.corpus import sequences
from crosstime.suites.similarity import linear_cka, mean_cosine, mean_pearson, similarity
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from crosstime.suites.tiny_config import TinyConfig
from crosstime.suites.train_tiny_suite import train_tiny_suite
from interventions import Site
from interventions.errors import SiteError
from tasks.agreement import sentences

SMALL = TinyConfig(
    d_model=16,
    n_layers=2,
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


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Suite:
    folder = tmp_path_factory.mktemp("representation") / "mine"
    return train_tiny_suite(folder, sentences(400, seed=0), SMALL)


@pytest.fixture(scope="module")
def table(suite: Suite) -> pd.DataFrame:
    return similarity(suite, Site(0), TEXT, TextSample(5, 9))


@pytest.fixture(scope="module")
def activations(suite: Suite) -> dict[str, np.ndarray]:
    """Residual stream behind the first block, all but the first token of five sequences, in float64."""
    rows = [row for row, _ in zip(sequences(TEXT, suite.tokenizer, 9), range(5), strict=False)]
    by_revision = {}
    for revision in suite.revisions:
        model = AutoModelForCausalLM.from_pretrained(suite[revision].source, dtype=torch.float32).eval()
        with torch.no_grad():
            # Without the later blocks' help: hidden state 1 is the first block's output.
            hidden = [model(row[None], output_hidden_states=True).hidden_states[1][0, 1:] for row in rows]
        by_revision[revision] = torch.cat(hidden).double().numpy()
    return by_revision


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    total = 0.0
    for a, b in zip(x, y, strict=True):
        total += sum(a * b) / math.sqrt(sum(a * a) * sum(b * b))
    return total / len(x)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    return sum(np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)) / len(x)


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """By the tokens' Gram matrices, HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), not by the features."""
    n = len(x)
    centre = np.eye(n) - np.ones((n, n)) / n
    k, m = (centre @ z @ z.T @ centre for z in (x, y))

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        return sum(a[i, j] * b[i, j] for i, j in product(range(n), repeat=2))

    return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize("measure", [cosine, pearson, cka])
def test_every_pair_of_checkpoints_is_as_loops_over_the_bare_models_find(
    suite: Suite, table: pd.DataFrame, activations: dict[str, np.ndarray], measure
):
    assert len(activations["step0"]) == 5 * 8
    assert list(table.columns) == ["revision", "other", "cosine", "pearson", "cka"]
    assert list(zip(table.revision, table.other, strict=True)) == list(product(suite.revisions, repeat=2))
    for row in table.to_dict("records"):
        expected = measure(activations[row["revision"]], activations[row["other"]])
        assert row[measure.__name__] == pytest.approx(expected, abs=1e-5)
    assert table[measure.__name__].iloc[1] < 1 - 1e-3, "the checkpoints differ, or this test could not fail"


def test_a_checkpoint_is_like_itself_and_the_table_is_symmetric(table: pd.DataFrame):
    for name in ("cosine", "pearson", "cka"):
        wide = table.pivot(index="revision", columns="other", values=name).to_numpy()
        assert np.diag(wide) == pytest.approx(1, abs=1e-6)
        assert np.array_equal(wide, wide.T)


def test_the_first_token_of_a_sequence_does_not_count(suite: Suite, monkeypatch):
    import crosstime.suites.similarity as module

    def like(first: float) -> pd.DataFrame:
        def fetch(model, text, sites, **options):
            activations = plain(model, text, sites, **options)[sites[0]].clone()
            activations[text.position_of_token == 0] = first
            return {sites[0]: activations}

        monkeypatch.setattr(module, "fetch", fetch)
        return similarity(suite, Site(1), TEXT, TextSample(4, 6))

    plain = module.fetch
    assert like(1e6).equals(like(-3.0))


def test_the_measures_of_random_activations_are_those_of_the_loops():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(30, 7, generator=generator) for _ in range(2))
    assert mean_cosine(x, y) == pytest.approx(cosine(x.double().numpy(), y.double().numpy()))
    assert mean_pearson(x, y) == pytest.approx(pearson(x.double().numpy(), y.double().numpy()))
    assert linear_cka(x, y) == pytest.approx(cka(x.double().numpy(), y.double().numpy()))
    wider = torch.randn(30, 11, generator=generator)
    assert linear_cka(x, wider) == pytest.approx(cka(x.double().numpy(), wider.double().numpy()))


def test_a_rotation_changes_the_cosine_and_not_the_cka():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 6, generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    assert linear_cka(x, 3 * x @ rotation + 2) == pytest.approx(1, abs=1e-5)
    assert mean_cosine(x, x @ rotation) < 0.9
    assert mean_pearson(x, 3 * x + 2) == pytest.approx(1)
    assert mean_cosine(x, 3 * x + 2) < 0.99


def test_what_cannot_be_compared_is_nan_or_nought():
    assert math.isnan(linear_cka(torch.ones(5, 3), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))))
    assert mean_cosine(torch.zeros(2, 3), torch.ones(2, 3)) == 0
    assert mean_pearson(torch.ones(2, 3), torch.ones(2, 3)) == 0


def test_bad_input_is_named(suite: Suite):
    with pytest.raises(SiteError, match="Layer 9 does not exist"):
        similarity(suite, Site(9), TEXT)
    with pytest.raises(CorpusError):
        similarity(suite, Site(0), ["one word"], TextSample(sequence_length=64))
