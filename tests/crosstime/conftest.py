"""Suites and a crosscoder that several test files read; nobody may change them."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import BaseContext

import pytest

from crosstime.activations.data_config import DataConfig
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from crosstime.suites.tiny_config import TinyConfig
from crosstime.suites.train_tiny_suite import train_tiny_suite
from interventions import Model, Site
from tasks.agreement import sentences

BRIEF = TinyConfig(
    d_model=16, n_layers=2, n_heads=2, vocab_size=400, sequence_length=8, batch_tokens=64,
    steps=6, checkpoints=(0, 6), lr=1e-2, warmup=2,
)  # fmt: skip
LEARNING = TinyConfig(
    d_model=16, n_layers=2, n_heads=2, vocab_size=512, sequence_length=16, batch_tokens=256,
    steps=40, checkpoints=(0, 10, 40), lr=1e-2, warmup=4,
)  # fmt: skip


@pytest.fixture(scope="session")
def forks() -> BaseContext:
    """Processes that start in no time: each is forked from one that has imported everything, and done nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["crosstime.runs.run", "crosstime.runs.stages"])
    return context


@pytest.fixture(scope="session")
def brief_suite(tmp_path_factory) -> Suite:
    """Two checkpoints of a model that has hardly been trained: for whoever needs activations, not knowledge."""
    folder = tmp_path_factory.mktemp("brief") / "mine"
    return train_tiny_suite(folder, sentences(300, seed=0), BRIEF)


@pytest.fixture(scope="session")
def models() -> dict[tuple[str, str], Model]:
    """Every model that `opened` ever opened, by folder and precision."""
    return {}


@pytest.fixture
def opened(models: dict[tuple[str, str], Model], monkeypatch) -> list[str]:
    """Checkpoints as they are opened, in order; each is read from disk once, which saves most of the time."""
    names: list[str] = []
    real = Compute.open

    def open_again(compute: Compute, suite: Suite, revision: str):
        names.append(revision)
        key = suite[revision].source, compute.precision
        if key not in models:
            models[key] = real(compute, suite, revision)
        return models[key]

    monkeypatch.setattr(Compute, "open", open_again)
    monkeypatch.setattr(Model, "close", lambda model: None)
    return names


@pytest.fixture(scope="session")
def learning_suite(tmp_path_factory) -> Suite:
    """Three checkpoints of a model whose loss falls, so that its losses and answers differ between them."""
    folder = tmp_path_factory.mktemp("learning") / "mine"
    return train_tiny_suite(folder, sentences(1500, seed=0), LEARNING)


@pytest.fixture(scope="session")
def learning_crosscoder(learning_suite: Suite) -> CrossCoder:
    """A crosscoder of all checkpoints of `learning_suite`, trained for a moment."""
    # Here, so that tests of other parts do not wait for this import.
    from crosstime.training.l1_config import L1Config
    from crosstime.training.train import train

    config = L1Config(n_features=24, steps=60, lr=1e-2, l1=0.3)
    data = DataConfig(batch_size=64, sequence_length=12)
    return train(learning_suite, Site(0), list(sentences(300, seed=1)), config, data=data).crosscoder
