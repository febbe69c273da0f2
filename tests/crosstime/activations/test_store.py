"""Batches from a store: every token once, in an order that depends on a seed, resumable from a state."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from crosstime.activations import store as module
from crosstime.activations.data_config import DataConfig
from crosstime.activations.harvest import harvest
from crosstime.activations.manifest import read_manifest
from crosstime.activations.store import ActivationStore, store_at
from crosstime.errors import CrosscoderError, StoreError
from crosstime.suites.suite import Suite
from crosstime.training.l1_config import L1Config
from crosstime.training.train import train
from interventions import Site
from tasks.agreement import sentences

TEXT = list(sentences(180, seed=3))
DATA = DataConfig(batch_size=50, buffer_tokens=400)
OPTIONS = {"tokens": 200 * 7, "sequence_length": 8, "shard_tokens": 300, "dtype": "float32"}


@pytest.fixture(scope="module")
def store(brief_suite: Suite, tmp_path_factory) -> ActivationStore:
    return harvest(brief_suite, Site(0), TEXT, tmp_path_factory.mktemp("stored") / "store", **OPTIONS)


@pytest.fixture(scope="module")
def activations(store: ActivationStore) -> torch.Tensor:
    shards = range(len(store.manifest["shards"]))
    return torch.cat([store.rows(shard, 0, store.shard_tokens(shard)) for shard in shards])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 64)


def token_indices(batches: torch.Tensor, activations: torch.Tensor) -> list[int]:
    """The index in the store of each row of some batches, compared bit for bit; equal rows are matched in order."""
    indices_of_row: dict[bytes, list[int]] = {}
    for number, row in enumerate(activations):
        indices_of_row.setdefault(row.numpy().tobytes(), []).append(number)
    return [indices_of_row[row.numpy().tobytes()].pop(0) for row in batches]


def test_every_token_is_served_once(store: ActivationStore, activations: torch.Tensor):
    batches = torch.cat(list(store.batches(DATA)))
    assert len(batches) == 1400
    assert sorted(token_indices(batches, activations)) == list(range(1400))


def test_tokens_come_mixed_from_all_over_the_text(store: ActivationStore, activations: torch.Tensor):
    indices = token_indices(next(store.batches(DATA)), activations)
    assert indices != sorted(indices)
    assert max(indices) - min(indices) > 700
    assert len({number // 64 for number in indices}) >= 4


def test_the_same_seed_serves_the_same_batches(store: ActivationStore):
    first, repeated, different = (next(store.batches(replace(DATA, seed=seed))) for seed in (1, 1, 2))
    assert torch.equal(first, repeated)
    assert not torch.equal(first, different)


def test_every_epoch_has_another_order(store: ActivationStore, activations: torch.Tensor):
    batches = list(islice(store.batches(DataConfig(batch_size=1400, buffer_tokens=1400), repeat=True), 2))
    first, second = (token_indices(batch, activations) for batch in batches)
    assert sorted(first) == sorted(second) == list(range(1400))
    assert first != second


@pytest.mark.parametrize("limit", [120, 1000, 3000])
def test_no_more_tokens_are_served_than_the_limit(store: ActivationStore, limit: int):
    batches = store.batches(replace(DATA, batch_size=40), limit=limit, repeat=True)
    assert sum(len(batch) for batch in batches) == limit
    assert batches.tokens == limit


@pytest.mark.parametrize("served", [1, 6, 9, 30])
def test_a_buffer_resumed_from_a_state_serves_the_same_batches(store: ActivationStore, served: int):
    data = replace(DATA, seed=3)
    uninterrupted = list(store.batches(data, limit=2500, repeat=True))
    interrupted = store.batches(data, limit=2500, repeat=True)
    for _ in range(served):
        next(interrupted)
    resumed = list(store.batches(data, limit=2500, repeat=True, state=interrupted.state()))
    assert len(resumed) == 50 - served
    assert all(torch.equal(batch, expected) for batch, expected in zip(resumed, uninterrupted[served:], strict=True))


def test_the_state_of_another_store_is_rejected(store, brief_suite: Suite, tmp_path: Path, opened):
    other = harvest(brief_suite, Site(0), TEXT, tmp_path / "other", **OPTIONS | {"tokens": 700})
    with pytest.raises(StoreError, match="is not the one that training was interrupted on"):
        store.batches(DATA, state=other.batches(DATA).state())


def test_batches_have_the_dtype_of_the_buffer(store: ActivationStore):
    batch = next(store.batches(replace(DATA, buffer_dtype="bfloat16")))
    assert batch.dtype == torch.bfloat16
    assert torch.equal(batch, next(store.batches(DATA)).bfloat16())


def test_a_batch_larger_than_the_buffer_is_rejected(store: ActivationStore):
    with pytest.raises(CrosscoderError, match="A buffer of 40 tokens cannot serve batches of 50"):
        store.batches(replace(DATA, buffer_tokens=40))


def test_a_damaged_shard_is_named_when_it_is_read(tmp_path: Path, brief_suite: Suite, opened):
    harvest(brief_suite, Site(0), TEXT, tmp_path / "mine", **OPTIONS)
    path = tmp_path / "mine" / "shard-00003-1.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match=r"shard-00003-1\.safetensors is damaged"):
        list(ActivationStore.open(tmp_path / "mine").batches(DATA))


def test_a_crosscoder_is_trained_on_a_store_with_its_scales(store: ActivationStore, brief_suite: Suite):
    config = L1Config(n_features=12, steps=60, lr=3e-3, l1=0.05)
    trained = train(brief_suite, Site(0), store, config, data=DataConfig(batch_size=32, buffer_tokens=500))
    assert torch.equal(trained.crosscoder.scales, store.scales)
    assert trained.log.loss.iloc[-1] < 0.7 * trained.log.loss.iloc[0]


def test_a_store_of_other_checkpoints_or_another_site_is_rejected(store: ActivationStore, brief_suite: Suite):
    store.refuse_other(brief_suite, Site(-2))
    with pytest.raises(StoreError, match=r"site was 'resid\.0' and is now 'resid\.1'"):
        store.refuse_other(brief_suite, Site(1))
    with pytest.raises(StoreError, match=r"revisions was \['step0', 'step6'\] and is now \['step6', 'step0'\]"):
        store.refuse_other(brief_suite.select(["step6", "step0"]), Site(0))


def test_a_store_of_other_weights_under_the_same_names_is_rejected(
    store: ActivationStore, brief_suite: Suite, tmp_path
):
    shutil.copytree(Path(brief_suite.checkpoints[0].source).parent, tmp_path / "mine")
    store.refuse_other(Suite.open(tmp_path / "mine"), Site(0))
    weights = tmp_path / "mine" / "step6" / "model.safetensors"
    save_file({name: tensor + 0.01 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    retrained = Suite.open(tmp_path / "mine")
    message = r"was harvested from other weights than those of mine, though step0, step6 are named alike"
    with pytest.raises(StoreError, match=message):
        store.refuse_other(retrained, Site(0))
    with pytest.raises(StoreError, match=message):
        train(retrained, Site(0), store, L1Config(n_features=12, steps=2), data=DataConfig(batch_size=32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no activation store in"),
        ("{", "is not a valid JSON file"),
        ('{"format": "x"}', "is not the manifest of an activation store"),
        ('{"format": "crosstime-activations-1"}', "is damaged: it has no 'made_from'"),
    ],
)
def test_a_folder_that_is_no_store_is_rejected(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        read_manifest(tmp_path)
    if content is None:
        assert store_at(tmp_path) is None
    else:
        with pytest.raises(StoreError, match=message):
            store_at(tmp_path)


def test_a_source_is_a_store_or_text(store: ActivationStore, tmp_path: Path):
    for source in (store.folder, str(store.folder), [store.folder]):
        assert store_at(source).digest == store.digest
    for source in ("text.txt", ["text.txt", "more.txt"], iter(TEXT), TEXT, tmp_path, "a" * 5000, "a\0b"):
        assert store_at(source) is None
    with pytest.raises(StoreError, match="the only source of a training run"):
        store_at(["text.txt", store.folder])
