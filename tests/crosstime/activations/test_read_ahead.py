"""Reading ahead in a thread changes when tokens are read, and nothing else."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crosstime.activations.buffer import ActivationBuffer
from crosstime.activations.buffer_state import BufferState
from crosstime.activations.data_config import DataConfig
from crosstime.activations.harvest import harvest
from crosstime.activations.read_ahead import Position, ReadAhead, Reading
from crosstime.activations.store import ActivationStore, StoredBatches
from crosstime.activations.token_rows import Share
from crosstime.suites.suite import Suite
from interventions import Site
from interventions.remote.pause import StoppedError, pause
from tasks.agreement import sentences

DATA = DataConfig(batch_size=10, buffer_tokens=90)
SITE = Site(0)


@pytest.fixture(autouse=True)
def models_in_memory(opened: list[str]) -> None:
    """Keep models in memory: opening one takes longer than all of its forward passes here."""


@pytest.fixture(scope="module")
def store(brief_suite: Suite, tmp_path_factory) -> ActivationStore:
    text = list(sentences(200, seed=3))
    return harvest(brief_suite, SITE, text, tmp_path_factory.mktemp("store") / "s", sequence_length=8, shard_tokens=300)


def rows() -> list[torch.Tensor]:
    return list(torch.randint(1, 300, (60, 8), generator=torch.Generator().manual_seed(4)))


def on_the_fly(suite: Suite, data: DataConfig = DATA, **options) -> ActivationBuffer:
    return ActivationBuffer(suite, SITE, iter(rows()), data, **options)


def served_by(buffer: ActivationBuffer) -> list[tuple[torch.Tensor, BufferState]]:
    """All batches, and the state after each."""
    return [(batch, buffer.state()) for batch in buffer]


@pytest.fixture
def ahead(monkeypatch) -> None:
    """Read ahead where the checkpoints run on a CPU, too."""
    monkeypatch.setattr(ActivationBuffer, "_reads_ahead", property(lambda self: True))


@pytest.mark.parametrize("buffer_tokens", [10, 25, 90, 1000])
@pytest.mark.parametrize("limit", [None, 233])
def test_batches_and_states_are_those_of_a_buffer_that_does_not(
    buffer_tokens: int, limit: int | None, brief_suite: Suite, monkeypatch
):
    data = replace(DATA, buffer_tokens=buffer_tokens)
    plain = served_by(on_the_fly(brief_suite, data, limit=limit))
    monkeypatch.setattr(ActivationBuffer, "_reads_ahead", property(lambda self: True))
    buffer = on_the_fly(brief_suite, data, limit=limit)
    for (batch, state), (other, expected) in zip(served_by(buffer), plain, strict=True):
        assert torch.equal(batch, other)
        assert torch.equal(state.activations, expected.activations)
        facts = [
            (position.sequences, position.digest, position.tokens, position.exhausted) for position in (state, expected)
        ]
        assert facts[0] == facts[1]
    buffer.close()


@pytest.mark.parametrize("served", [0, 3, 11])
def test_another_buffer_continues_from_the_state(served: int, brief_suite: Suite, ahead: None):
    uninterrupted = list(on_the_fly(brief_suite))
    interrupted = on_the_fly(brief_suite)
    for _ in range(served):
        next(interrupted)
    state = interrupted.state()
    interrupted.close()
    resumed = list(on_the_fly(brief_suite, state=state))
    assert len(resumed) == len(uninterrupted) - served
    assert all(torch.equal(batch, other) for batch, other in zip(resumed, uninterrupted[served:], strict=True))


def test_tokens_of_huge_norm_are_left_out_as_without(brief_suite: Suite, monkeypatch):
    data = replace(DATA, max_activation_norm_multiple=1.2)
    plain = list(on_the_fly(brief_suite, data))
    monkeypatch.setattr(ActivationBuffer, "_reads_ahead", property(lambda self: True))
    buffer = on_the_fly(brief_suite, data)
    assert all(torch.equal(batch, other) for batch, other in zip(buffer, plain, strict=True))
    assert buffer.left_out > 0


def test_a_store_reads_ahead_with_the_same_batches(store: ActivationStore, monkeypatch):
    buffer = store.batches(DATA, limit=2000, repeat=True)
    thread_names = set()
    read_rows = ActivationStore.rows

    def noting(self: ActivationStore, *block: int) -> torch.Tensor:
        thread_names.add(threading.current_thread().name)
        return read_rows(self, *block)

    monkeypatch.setattr(ActivationStore, "rows", noting)
    batches = list(buffer)
    assert any(name.startswith("crosstime-read-ahead") for name in thread_names)
    monkeypatch.setattr(StoredBatches, "_reads_ahead", property(lambda self: False))
    plain = list(store.batches(DATA, limit=2000, repeat=True))
    assert len(batches) == 200
    assert all(torch.equal(batch, other) for batch, other in zip(batches, plain, strict=True))


def test_an_error_in_the_thread_is_raised_where_its_tokens_are_needed(brief_suite: Suite, ahead: None):
    def text():
        yield from rows()[:20]
        raise ValueError("the text is gone")

    buffer = ActivationBuffer(brief_suite, SITE, text(), DATA)
    assert next(buffer).shape == (10, 2, 16)
    with pytest.raises(ValueError, match="the text is gone"):
        list(buffer)


def test_closing_ends_a_reading_that_is_under_way():
    begun, ended = threading.Event(), threading.Event()

    def read(n_tokens: int) -> Reading:
        begun.set()
        try:
            pause(3600.0)
        except StoppedError:
            ended.set()
            raise
        return Reading(Share(torch.zeros(n_tokens, 1, 1)), Position(0, ""))

    source = ReadAhead(read)
    source.start(5)
    assert begun.wait(600)
    source.close()
    assert ended.is_set()


def test_int8_activations_train_as_their_decoded_values(store: ActivationStore, brief_suite: Suite, tmp_path: Path):
    """A store in int8 serves what a float32 store serves, rounded row by row."""
    text = list(sentences(200, seed=3))
    options = {"sequence_length": 8, "shard_tokens": 300}
    exact = harvest(brief_suite, SITE, text, tmp_path / "exact", dtype="float32", **options)
    coded = harvest(brief_suite, SITE, text, tmp_path / "coded", dtype="int8", **options)
    x, q = exact.rows(1, 20, 90), coded.rows(1, 20, 90)
    step = x.abs().amax(-1, keepdim=True) / 127
    assert ((x - q).abs() <= 0.500001 * step).all()
    assert coded.dtype == torch.int8
    norms = torch.cat([coded.rows(s, 0, coded.shard_tokens(s)) for s in range(len(coded.manifest["shards"]))]).norm(
        dim=-1
    )
    torch.testing.assert_close(coded.scales, 4.0 / norms.mean(0))
    size = sum(path.stat().st_size for path in (tmp_path / "coded").glob("shard-00001-[01].safetensors"))
    assert size < coded.shard_tokens(1) * 2 * (16 + 4) + 1000
    # A buffer in int8 of the exact rows serves the rows of the store in int8
    data = replace(DATA, buffer_dtype="int8")
    assert torch.equal(next(exact.batches(data)), next(coded.batches(DATA)))
