from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from crosstime.activations.buffer import ActivationBuffer
from crosstime.activations.data_config import DataConfig
from crosstime.errors import CrosscoderError
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Site

SITE = Site(0)
LENGTH = 6


@pytest.fixture(scope="module")
def suite(brief_suite: Suite) -> Suite:
    return brief_suite


@pytest.fixture(autouse=True)
def models_in_memory(opened: list[str]) -> None:
    """Keep models in memory: opening one takes longer than all of its forward passes here."""


def rows(count: int, length: int = LENGTH) -> list[torch.Tensor]:
    """Sequences of random tokens."""
    generator = torch.Generator().manual_seed(4)
    return list(torch.randint(1, 300, (count, length), generator=generator))


@pytest.fixture(scope="module")
def expected(suite: Suite) -> torch.Tensor:
    """Activations of forty sequences without their first tokens, by plain transformers: ``T C D``."""
    activations = []
    for checkpoint in suite:
        model = AutoModelForCausalLM.from_pretrained(checkpoint.source).eval()
        with torch.no_grad():
            hidden = model(torch.stack(rows(40)), output_hidden_states=True).hidden_states[1]
        activations.append(hidden[:, 1:].flatten(0, 1))
    return torch.stack(activations, dim=1)


DATA = DataConfig(batch_size=10, buffer_tokens=120)


def buffer_of(suite: Suite, count: int = 40, data: DataConfig = DATA, **options) -> ActivationBuffer:
    return ActivationBuffer(suite, SITE, iter(rows(count)), data, **options)


def token_indices(batches: torch.Tensor, expected: torch.Tensor) -> list[int]:
    """The index in `expected` of each row of some batches, compared at all checkpoints at once."""
    distance = (batches[:, None] - expected[None]).abs().flatten(2).amax(-1)
    assert (distance.amin(1) < 1e-4).all()
    return distance.argmin(1).tolist()


def test_batches_have_one_row_per_token_and_one_column_per_checkpoint(suite: Suite):
    batch = next(buffer_of(suite))
    assert batch.shape == (10, 2, 16)
    assert batch.dtype == torch.float32


def test_rows_are_the_models_activations_of_one_token_at_all_checkpoints(suite: Suite, expected: torch.Tensor):
    batches = torch.cat(list(buffer_of(suite)))
    indices = token_indices(batches, expected)
    assert len(indices) == len(set(indices)) == 200


def test_first_tokens_are_left_out(suite: Suite):
    batches = torch.cat(list(buffer_of(suite)))
    for c, checkpoint in enumerate(suite):
        model = AutoModelForCausalLM.from_pretrained(checkpoint.source).eval()
        with torch.no_grad():
            first = model(torch.stack(rows(40)), output_hidden_states=True).hidden_states[1][:, 0]
        assert (batches[:, c][:, None] - first[None]).abs().amax(-1).min() > 1e-3


def test_tokens_are_served_in_another_order_than_that_of_the_text(suite: Suite, expected: torch.Tensor):
    indices = token_indices(torch.cat(list(buffer_of(suite))), expected)
    assert indices != sorted(indices)
    # Fillings are not served one after the other: unserved tokens are mixed with new ones.
    assert max(indices[:120]) >= 120


def test_no_token_is_served_twice_for_any_batch_and_buffer_size(suite: Suite, expected: torch.Tensor):
    for batch_size, capacity in ((22, 22), (40, 61), (90, 120), (200, 200)):
        batches = torch.cat(list(buffer_of(suite, data=DataConfig(batch_size=batch_size, buffer_tokens=capacity))))
        indices = token_indices(batches, expected)
        assert len(indices) == len(set(indices)) == 200 // batch_size * batch_size, (batch_size, capacity)


def test_scales_are_the_root_of_the_width_over_the_mean_norm(suite: Suite, expected: torch.Tensor):
    buffer = buffer_of(suite, data=replace(DATA, buffer_tokens=1000))
    for c in range(2):
        norms = [sum(value**2 for value in row) ** 0.5 for row in expected[:, c].tolist()]
        assert buffer.scales[c].item() == pytest.approx(4.0 / (sum(norms) / len(norms)), rel=1e-4)


def test_scales_are_those_of_the_first_filling(suite: Suite, expected: torch.Tensor):
    buffer = buffer_of(suite, data=replace(DATA, buffer_tokens=100))
    for _ in buffer:
        pass
    torch.testing.assert_close(buffer.scales, 4.0 / expected[:100].norm(dim=-1).mean(0), rtol=1e-4, atol=0)


def test_the_same_seed_serves_the_same_batches(suite: Suite):
    first, repeated, different = (
        torch.cat(list(buffer_of(suite, data=replace(DATA, seed=seed)))) for seed in (1, 1, 2)
    )
    assert torch.equal(first, repeated)
    assert not torch.equal(first, different)


@pytest.mark.parametrize("limit", [33, 130, 10_000])
def test_no_more_tokens_are_kept_than_the_limit(suite: Suite, limit: int):
    buffer = buffer_of(suite, limit=limit)
    batches = torch.cat(list(buffer))
    assert buffer.tokens == min(limit, 200)
    assert len(batches) == min(limit, 200) // 10 * 10


def test_an_endless_text_is_read_no_further_than_the_limit(suite: Suite):
    n_sequences = 0

    def endless():
        nonlocal n_sequences
        for row in itertools.cycle(rows(40)):
            n_sequences += 1
            yield row

    buffer = ActivationBuffer(suite, SITE, endless(), replace(DATA, buffer_tokens=60), limit=100)
    assert sum(len(batch) for batch in buffer) == 100
    assert n_sequences == 100 // (LENGTH - 1)


def test_without_memory_for_more_one_model_is_open_at_a_time_and_each_once_per_filling(suite: Suite, monkeypatch):
    monkeypatch.undo()  # models that are not in memory yet
    opened: list[str] = []
    n_open = max_open = 0
    open_checkpoint = Compute.open

    def counting(self: Compute, opened_suite: Suite, revision: str):
        nonlocal n_open, max_open
        opened.append(revision)
        n_open += 1
        max_open = max(max_open, n_open)
        model = open_checkpoint(self, opened_suite, revision)
        close = model.close

        def closing() -> None:
            nonlocal n_open
            n_open -= 1
            close()

        model.close = closing
        return model

    monkeypatch.setattr(Compute, "open", counting)
    buffer = buffer_of(suite, data=replace(DATA, buffer_tokens=100), compute=Compute(resident_gb=0))
    assert opened == list(suite.revisions)
    batches = [next(buffer) for _ in range(5)]
    assert opened == list(suite.revisions)
    batches.append(next(buffer))
    assert opened == list(suite.revisions) * 2
    batches += list(buffer)
    assert (n_open, max_open) == (0, 1)
    assert len(batches) == 20


def test_harvesting_is_reported_over_all_checkpoints(suite: Suite):
    reports: list[tuple[int, int]] = []
    buffer_of(suite, data=replace(DATA, buffer_tokens=50), on_harvest=lambda done, total: reports.append((done, total)))
    assert reports == [(50, 100), (100, 100)]


def test_a_short_text_is_served_to_its_end(suite: Suite):
    buffer = buffer_of(suite, count=5)
    assert [len(batch) for batch in buffer] == [10, 10]
    assert buffer.tokens == 25


@pytest.mark.parametrize("text", [[], [torch.tensor([5])]])
def test_a_text_without_a_second_token_is_rejected(suite: Suite, text: list[torch.Tensor]):
    with pytest.raises(CrosscoderError, match="no sequence of at least two tokens"):
        ActivationBuffer(suite, SITE, iter(text), DataConfig(batch_size=1))


def test_a_batch_that_does_not_fit_the_buffer_is_rejected(suite: Suite):
    with pytest.raises(CrosscoderError, match="A buffer of 120 tokens cannot serve batches of 121"):
        buffer_of(suite, data=replace(DATA, batch_size=121))
