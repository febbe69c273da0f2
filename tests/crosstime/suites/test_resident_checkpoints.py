"""Checkpoints stay open between passes as far as memory allows, and what is measured stays the same."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

import crosstime as ct
from crosstime.activations.buffer import ActivationBuffer
from crosstime.errors import CrosstimeError
from crosstime.machine import memory
from crosstime.suites import resident_checkpoints
from crosstime.suites.resident_checkpoints import ResidentCheckpoints, model_bytes
from interventions import Model, Site
from tasks.agreement import sentences

TEXT = list(sentences(300, seed=1))
SITE = Site(0)


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the checkpoints that are opened and not yet closed, and of all that were ever opened."""
    names: list[str] = []
    real = ct.Compute.open

    def open_and_note(compute: ct.Compute, suite: ct.Suite, revision: str) -> Model:
        names.append(revision)
        return real(compute, suite, revision)

    monkeypatch.setattr(ct.Compute, "open", open_and_note)
    return names


@pytest.fixture(scope="module")
def size(learning_suite: ct.Suite) -> int:
    with ct.Compute().open(learning_suite, learning_suite.revisions[0]) as model:
        return model_bytes(model)


def test_the_bytes_of_a_model_count_shared_weights_once(learning_suite: ct.Suite, size: int):
    with ct.Compute().open(learning_suite, learning_suite.revisions[0]) as model:
        module = model.module
        weights = sum(parameter.numel() for parameter in module.parameters()) * 4
        buffers = sum(buffer.nbytes for buffer in module.buffers())
        assert size == weights + buffers
        module.get_output_embeddings().weight = module.get_input_embeddings().weight
        assert model_bytes(model) == size - module.get_input_embeddings().weight.nbytes


@pytest.mark.parametrize(("room", "n_stay"), [(0.0, 0), (1.5, 0), (2.5, 1), (3.0, 3), (9.0, 3)])
def test_as_many_stay_as_fit_beside_one_that_takes_turns(
    learning_suite: ct.Suite, opened: list[str], size: int, room: float, n_stay: int
):
    compute = ct.Compute(resident_gb=room * size / 1e9 + (1e-9 if room else 0))
    with ResidentCheckpoints(compute, learning_suite) as checkpoints:
        models = [checkpoints.each(lambda index, model: (index, model)) for _ in range(3)]
        assert opened == [*learning_suite.revisions, *learning_suite.revisions[n_stay:] * 2]
        assert checkpoints.openings == 3 + 2 * (3 - n_stay)
        assert [index for index, _ in models[2]] == [0, 1, 2]
        same_models = [first is last for (_, first), (_, last) in zip(models[0], models[2], strict=True)]
        assert same_models == [index < n_stay for index in range(3)]
        for index, (_, model) in enumerate(models[2]):
            if index < n_stay:
                assert model.n_layers
    for _, model in itertools.chain(*models):
        with pytest.raises(Exception, match="has been closed"):
            _ = model.nnsight


def test_an_error_leaves_nothing_open(learning_suite: ct.Suite):
    models: list[Model] = []

    def fail(index: int, model: Model) -> None:
        models.append(model)
        if index == 1:
            raise KeyError("mine")

    checkpoints = ResidentCheckpoints(ct.Compute(resident_gb=1), learning_suite)
    with checkpoints, pytest.raises(KeyError, match="mine"):
        checkpoints.each(fail)
    assert len(models) == 2
    for model in models:
        with pytest.raises(Exception, match="has been closed"):
            _ = model.nnsight


def test_without_a_number_half_of_what_is_free_beyond_the_reserve_is_taken(
    learning_suite: ct.Suite, opened: list[str], size: int, monkeypatch
):
    monkeypatch.setattr(resident_checkpoints, "free_memory", lambda device: 7 * size)
    for reserved, n_again in ((0, 0), (2 * size, 2), (6 * size, 3), (90 * size, 3)):
        opened.clear()
        with ResidentCheckpoints(ct.Compute(), learning_suite, reserved=reserved) as checkpoints:
            for _ in range(2):
                checkpoints.each(lambda index, model: None)
        assert len(opened) == 3 + n_again
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    opened.clear()
    with ResidentCheckpoints(ct.Compute(), learning_suite) as checkpoints:
        for _ in range(2):
            checkpoints.each(lambda index, model: None)
    assert len(opened) == 6


def test_the_free_memory_of_this_machine_is_some_of_it():
    free = memory.free_memory(torch.device("cpu"))
    assert 0 < free <= memory.main_memory()


@pytest.mark.long
def test_a_training_opens_its_checkpoints_once_and_gives_the_same_bits(learning_suite: ct.Suite, opened: list[str]):
    data = ct.DataConfig(batch_size=32, sequence_length=12, buffer_tokens=100, validation=0.1)
    config = ct.L1Config(n_features=16, steps=12, lr=1e-2)
    crosscoders = {}
    for room in (0, 1):
        opened.clear()
        compute = ct.Compute(resident_gb=room)
        crosscoders[room] = ct.train(learning_suite, SITE, TEXT, config, data=data, compute=compute).crosscoder
        n_opened = len(opened)
        assert (n_opened == 3) if room else (n_opened >= 5 * 3)
    for name, tensor in crosscoders[0].state_dict().items():
        assert torch.equal(tensor, crosscoders[1].state_dict()[name])


def test_an_evaluation_opens_its_checkpoints_once(learning_suite: ct.Suite, learning_crosscoder, opened: list[str]):
    sample = ct.TextSample(4, 12)
    tables = []
    for room, n_opened in ((0, 6), (1, 3)):
        opened.clear()
        compute = ct.Compute(resident_gb=room)
        tables.append(ct.evaluate(learning_suite, learning_crosscoder, TEXT, sample=sample, compute=compute))
        assert len(opened) == n_opened
    assert tables[0].equals(tables[1])


def test_a_budget_that_is_no_number_of_gigabytes_is_refused():
    for room in (-1.0, float("nan"), float("inf")):
        with pytest.raises(CrosstimeError, match="resident_gb must be a number of gigabytes that is not negative"):
            ct.Compute(resident_gb=room)
    assert replace(ct.Compute(), resident_gb=2).resident_gb == 2


def test_a_buffer_of_its_own_keeps_them_too(learning_suite: ct.Suite, opened: list[str]):
    rows = (torch.randint(1, 300, (8,)) for _ in range(60))
    data = ct.DataConfig(batch_size=20, buffer_tokens=80)
    buffer = ActivationBuffer(learning_suite, SITE, rows, data, compute=ct.Compute(resident_gb=1))
    assert len(list(buffer)) == 60 * 7 // 20
    assert opened == list(learning_suite.revisions)
    buffer.checkpoints.close()
