"""The fingerprint of a suite follows every byte of its weights, in every format, and so do caches and stores."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkpoint_folders import TEXT, to_bin, write_checkpoint, write_suite
from safetensors.torch import load_file, save_file

from crosstime.activations.harvest import harvest
from crosstime.activations.store import ActivationStore
from crosstime.errors import StoreError, SuiteError
from crosstime.suites.accuracy import accuracy
from crosstime.suites.suite import Suite
from crosstime.training.l1_config import L1Config
from crosstime.training.train import train
from interventions import Site
from tasks import load

FORMATS = ("safetensors", "shards", "bin", "bin shards")


def write(folder: Path, format: str, first_seed: int) -> Path:
    write_suite(folder, ["step1", "step2"], shard_size="12KB" if format == "shards" else None, first_seed=first_seed)
    if format.startswith("bin"):
        for checkpoint in folder.iterdir():
            to_bin(checkpoint, sharded=format == "bin shards")
    return folder


def weight_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".bin"))


@pytest.mark.parametrize("format", FORMATS)
def test_a_changed_byte_anywhere_changes_the_fingerprint(tmp_path: Path, format: str):
    folder = write(tmp_path / "mine", format, 0)
    before = Suite.open(folder).fingerprint
    assert Suite.open(shutil.copytree(folder, tmp_path / "copy" / "mine")).fingerprint == before
    for file in weight_files(folder):
        content = file.read_bytes()
        for place in (len(content) // 3, len(content) - 1):
            changed = bytearray(content)
            # The last byte of a zip is the length of its comment; the one before the last tensor's end stands in
            place = place if format in ("safetensors", "shards") else min(place, len(content) // 2)
            changed[place] ^= 1
            file.write_bytes(changed)
            assert Suite.open(folder).fingerprint != before, (file.name, place)
        file.write_bytes(content)
    assert Suite.open(folder).fingerprint == before


def test_every_tensor_of_a_model_counts(tmp_path: Path):
    write_checkpoint(tmp_path / "step1", num_hidden_layers=4)
    path = tmp_path / "step1" / "model.safetensors"
    tensors = load_file(path)
    fingerprints = {Suite.open(tmp_path).fingerprint}
    for name in tensors:
        save_file(tensors | {name: tensors[name] * 0}, path, {"format": "pt"})
        fingerprints.add(Suite.open(tmp_path).fingerprint)
    assert len(fingerprints) == len(tensors) + 1


def test_a_suite_that_is_open_sees_files_that_are_replaced(tmp_path: Path):
    folder, other = write(tmp_path / "mine", "bin", 0), write(tmp_path / "other", "bin", 5)
    suite, task = Suite.open(folder), load("agreement/simple", limit=40)
    before = suite.fingerprint, accuracy(suite, task, cache=tmp_path / "cache")["logit_difference"].tolist()
    for file in weight_files(other):
        shutil.copy(file, folder / file.relative_to(other))
    after = suite.fingerprint, accuracy(suite, task, cache=tmp_path / "cache")["logit_difference"].tolist()
    assert after[0] == Suite.open(folder).fingerprint != before[0]
    assert after[1] == accuracy(Suite.open(other), task)["logit_difference"].tolist() != before[1]
    shutil.copy(folder / "step1" / "pytorch_model.bin", folder / "step2" / "pytorch_model.bin")
    with pytest.raises(SuiteError, match="have the same weights"):
        accuracy(suite, task)


@pytest.mark.parametrize("format", FORMATS)
def test_accuracy_and_stores_of_other_weights_are_not_used_again(tmp_path: Path, format: str):
    folder, other = write(tmp_path / "mine", format, 0), write(tmp_path / "other" / "mine", format, 5)
    task, site, config = load("agreement/simple", limit=40), Site(1), L1Config(n_features=8, steps=1)

    def measure(suite: Path, cache: Path | None) -> list[float]:
        return accuracy(Suite.open(suite), task, cache=cache)["logit_difference"].tolist()

    old = measure(folder, tmp_path / "cache")
    harvest(Suite.open(folder), site, TEXT, tmp_path / "store", tokens=70, sequence_length=8)
    for file in weight_files(other):
        shutil.copy(file, folder / file.relative_to(other))
    assert measure(folder, tmp_path / "cache") == measure(other, None) != old
    with pytest.raises(StoreError, match="fingerprint"):
        harvest(Suite.open(folder), site, TEXT, tmp_path / "store", tokens=70, sequence_length=8)
    with pytest.raises(StoreError):
        train(Suite.open(folder), site, ActivationStore.open(tmp_path / "store"), config)
