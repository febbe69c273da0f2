"""Stores of activations, and interrupted trainings: manifests, shards, states."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from broken_input import edits, fuzzed, refuses_politely, replaced, tensors_like, write_file
from hypothesis import given
from hypothesis import strategies as st

from crosstime.activations.buffer_state import BufferState
from crosstime.activations.data_config import DataConfig
from crosstime.activations.store import ActivationStore, StoredBatches
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import StoreError
from crosstime.machine.tensors import read_tensors, write_tensors
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.l1_config import L1Config
from crosstime.training.resume import Checkpointer, TrainingState
from crosstime.training.trainer_of import trainer_of
from interventions import Site

pytestmark = pytest.mark.fuzz

C, D, S, N = 2, 3, 5, 4
FILES = {"tokens": torch.zeros(N, S, dtype=torch.int32)} | {
    name: torch.ones(N * (S - 1), D, dtype=torch.bfloat16) for name in ("step0", "main")
}
ORIGIN = Origin("tiny", ("step0", "main"), Site(1), D, {"kind": "l1"})
CONFIG = L1Config(n_features=4, steps=10)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[Path, dict]:
    """A store of one shard, made by hand."""
    folder = tmp_path_factory.mktemp("store")
    entries = {}
    for name, tensor in FILES.items():
        path = folder / f"shard-00000-{name}.safetensors"
        write_tensors(path, {"tokens" if name == "tokens" else "activations": tensor})
        content = path.read_bytes()
        entries[name] = {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    activations = {name: entries[name] | {"norms": 27.7} for name in ("step0", "main")}
    manifest = {
        "format": "crosstime-activations-1", "complete": True, "scales": [1.0, 1.0],
        "made_from": {
            "suite": "tiny", "revisions": ["step0", "main"], "site": "resid.1", "d_model": D, "tokenizer": "00",
            "tokens": 16, "sequence_length": S, "dtype": "bfloat16", "shard_tokens": 16, "model_dtype": "float32",
            "fingerprint": "00",
        },
        "text": {"complete": True, "source": "a.txt", "digest": "00"},
        "shards": [{"sequences": N, "tokens": entries["tokens"], "activations": activations}],
    }  # fmt: skip
    return folder, manifest


@pytest.fixture(scope="module")
def state_bytes(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    trainer = trainer_of(CONFIG, CrossCoder(ORIGIN, 4))
    trainer.update(0, torch.randn(6, C, D))
    buffer = BufferState(
        torch.zeros(2, C, D), torch.Generator().get_state(), torch.ones(C), tokens=8, sequences=2, digest="00",
        exhausted=False,
    )  # fmt: skip
    TrainingState.of([trainer], buffer, 1, [[{"step": 0, "loss": 1.5}]], {"precision": "float32"}).save(path)
    return path.read_bytes()


def use(folder: Path) -> None:
    """Open a store and read all of it."""
    store = ActivationStore.open(folder)
    store.verify()
    assert store.scales.shape == (len(store.revisions),)
    assert sum(len(x) for x in StoredBatches(store, DataConfig(batch_size=4, buffer_tokens=8))) <= store.n_tokens
    store.tokens(0)


def test_the_good_ones_are_read(good: tuple[Path, dict], state_bytes: bytes, tmp_path: Path):
    folder, manifest = good
    write_file(folder, "manifest.json", json.dumps(manifest).encode())
    use(folder)
    resume(write_file(tmp_path, "state.safetensors", state_bytes))


@fuzzed
@given(data=st.data())
def test_manifests_of_stores_with_other_values(good: tuple[Path, dict], data: st.DataObject):
    folder, manifest = good
    write_file(folder, "manifest.json", json.dumps(data.draw(replaced(manifest))).encode())
    refuses_politely(lambda: use(folder))


@fuzzed
@given(data=st.data())
def test_edited_manifests_of_stores(good: tuple[Path, dict], data: st.DataObject):
    folder, manifest = good
    write_file(folder, "manifest.json", data.draw(edits(json.dumps(manifest).encode())))
    refuses_politely(lambda: use(folder))


@pytest.mark.parametrize(
    "place", ["/etc/passwd", "../outside.safetensors", "a/../../outside", "..", "", "a\\..\\b", "x\0"]
)
def test_a_manifest_cannot_name_a_file_outside_its_store(good: tuple[Path, dict], place: str):
    folder, manifest = good
    other = json.loads(json.dumps(manifest))
    other["shards"][0]["tokens"]["file"] = place
    write_file(folder, "manifest.json", json.dumps(other).encode())
    with pytest.raises(StoreError, match="does not lie in the store's folder"):
        ActivationStore.open(folder)


@fuzzed
@given(data=st.data())
def test_shards_that_are_not_what_was_written(good: tuple[Path, dict], tmp_path: Path, data: st.DataObject):
    """Also with a manifest that vouches for them, as that of a stranger would."""
    folder, manifest = good
    copy, other = tmp_path / "copy", json.loads(json.dumps(manifest))
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    shard = other["shards"][0]
    entry = data.draw(st.sampled_from([shard["tokens"], *shard["activations"].values()]))
    path = copy / entry["file"]
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(edits(path.read_bytes())))
    else:
        write_tensors(path, data.draw(tensors_like(read_tensors(path)[0])))
    if data.draw(st.booleans()):
        content = path.read_bytes()
        entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_file(copy, "manifest.json", json.dumps(other).encode())
    refuses_politely(lambda: use(copy))


def resume(path: Path) -> None:
    """Go on from a state for a step, as a training does."""
    state = Checkpointer(Checkpointing(path, 5), {"precision": "float32"}).load([ORIGIN])
    trainer = trainer_of(CONFIG, CrossCoder(ORIGIN, 4))
    state.restore([trainer])
    trainer.update(state.step, torch.randn(6, C, D))


@fuzzed
@given(data=st.data())
def test_edited_training_states(tmp_path: Path, state_bytes: bytes, data: st.DataObject):
    path = write_file(tmp_path, "state.safetensors", data.draw(edits(state_bytes)))
    refuses_politely(lambda: resume(path))


@fuzzed
@given(data=st.data())
def test_training_states_with_other_tensors_and_facts(tmp_path: Path, state_bytes: bytes, data: st.DataObject):
    tensors, facts = read_tensors(write_file(tmp_path, "good.safetensors", state_bytes))
    if data.draw(st.booleans()):
        tensors = data.draw(tensors_like(tensors))
    else:
        facts["facts"] = json.dumps(data.draw(replaced(json.loads(facts["facts"]))))
    write_tensors(tmp_path / "state.safetensors", tensors, facts)
    refuses_politely(lambda: resume(tmp_path / "state.safetensors"))
