"""A crosscoder goes to the Hub and comes back; the Hub is a folder, a local cache, or a stand-in on loopback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi

from crosstime.crosscoders import exchange
from crosstime.crosscoders.activation_functions import BatchTopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from interventions import Site


@pytest.fixture
def crosscoder() -> CrossCoder:
    activation = BatchTopK(9, k=3)
    activation.threshold.fill_(0.75)
    origin = Origin("tiny", ("step64", "main"), Site(2, "mlp"), 5, {"seed": 7})
    return CrossCoder(origin, 9, torch.tensor([0.5, 3.0]), activation=activation, n_shared=2, seed=4)


def same_crosscoder(actual: CrossCoder, expected: CrossCoder) -> bool:
    states = actual.state_dict(), expected.state_dict()
    tensors_equal = all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    return tensors_equal and actual.origin == expected.origin and actual.n_shared == expected.n_shared


def test_a_folder_holds_weights_configuration_and_card(crosscoder: CrossCoder, tmp_path: Path):
    crosscoder.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["suite"], config["site"], config["revisions"]) == ("tiny", "mlp.2", ["step64", "main"])
    assert (config["activation"], config["n_features"], config["scales"]) == ("batchtopk", 9, [0.5, 3.0])
    assert "Crosscoder of tiny at mlp.2" in (tmp_path / "README.md").read_text()


def test_a_folder_is_read_back_bit_for_bit(crosscoder: CrossCoder, tmp_path: Path):
    crosscoder.save_pretrained(tmp_path)
    assert same_crosscoder(CrossCoder.from_pretrained(tmp_path), crosscoder)
    assert exchange.detect(tmp_path) == "crosstime"
    assert same_crosscoder(exchange.read(tmp_path), crosscoder)


def test_pushing_uploads_the_same_folder(crosscoder: CrossCoder, tmp_path: Path, monkeypatch):
    asked: dict[str, object] = {}

    def create(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> SimpleNamespace:
        asked["created"] = (repo_id, private, exist_ok)
        return SimpleNamespace(repo_id=repo_id)

    def upload(self, *, repo_id: str, folder_path: Path, revision: str | None, **options: object) -> str:
        asked["uploaded"] = (repo_id, revision)
        shutil.copytree(folder_path, tmp_path / "hub")
        return "https://example.org/commit"

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert crosscoder.push_to_hub("me/mine", private=True, branch="seed7") == "https://example.org/commit"
    assert asked == {"created": ("me/mine", True, True), "uploaded": ("me/mine", "seed7")}
    assert same_crosscoder(CrossCoder.from_pretrained(tmp_path / "hub"), crosscoder)


def test_a_repository_is_read_from_the_local_cache(crosscoder: CrossCoder, tmp_path: Path):
    repository = tmp_path / "models--me--mine"
    commit = "0123456789abcdef0123456789abcdef01234567"
    crosscoder.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    options = {"cache_dir": tmp_path, "local_files_only": True}
    assert same_crosscoder(CrossCoder.from_pretrained("me/mine", **options), crosscoder)
    assert same_crosscoder(CrossCoder.from_pretrained("me/mine", revision=commit, **options), crosscoder)
    with pytest.raises(CrosscoderError, match="the Hub has no crosscoder me/mine: "):
        CrossCoder.from_pretrained("me/mine", revision="other", **options)


@pytest.mark.parametrize("name", ["me/gone", "not a name"])
def test_what_is_not_there_is_one_sentence(tmp_path: Path, name: str):
    with pytest.raises(CrosscoderError, match=f"there is no folder {name}, and the Hub has no crosscoder {name}: "):
        CrossCoder.from_pretrained(name, cache_dir=tmp_path, local_files_only=True)


def test_a_folder_without_weights_is_refused(tmp_path: Path):
    with pytest.raises(CrosscoderError, match=r"there is no safetensors file at .*model\.safetensors"):
        CrossCoder.from_pretrained(tmp_path)
