"""Weights on the Hub: compared by what it lists for a commit, and offline by the names of files in its cache."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from checkpoint_folders import to_bin, write_suite
from huggingface_hub import constants
from stand_in_hub import StandInHub, branches, commit

from crosstime.errors import SuiteError
from crosstime.suites.checkpoint_files import CheckpointFiles
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite

NAME = "somebody/tiny"
REVISIONS = ["step1", "step2", "main"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    return write_suite(tmp_path_factory.mktemp("hub") / "models", REVISIONS)


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shared, tmp_path / "models")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    """The client of the Hub with an empty cache, and crosstime with an empty cache of its own."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("CROSSTIME_CACHE", str(tmp_path / "crosstime"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    return tmp_path / "hub"


@pytest.fixture
def hub(folder: Path, cache: Path, monkeypatch) -> Iterator[StandInHub]:
    with StandInHub({NAME: branches(folder)}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub
    huggingface_hub.close_session()


@pytest.fixture
def offline(monkeypatch) -> Callable[[], None]:
    """Call it to take the client offline."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def opened(**options) -> Suite:
    return Suite.open(NAME, REVISIONS, **options)


def weight_requests(hub: StandInHub) -> list[str]:
    return [path for path in hub.asked if path.startswith("GET") and path.endswith((".safetensors", ".bin"))]


def test_nothing_is_downloaded_to_compare_the_weights_of_a_repository(hub: StandInHub, folder: Path):
    suite = opened()
    suite.verify(distinct=True)
    for revision in REVISIONS:
        weights = suite.weights(revision)
        expected = hashlib.sha256((folder / revision / "model.safetensors").read_bytes()).hexdigest()
        assert [(file.name, file.digest) for file in weights.files] == [("model.safetensors", expected)]
        assert weights.commit == commit(NAME, revision)
    assert weight_requests(hub) == []
    # Newer releases of transformers ask the same once more when they read a configuration
    listings = {path for path in hub.asked if f"/api/models/{NAME}/revision/" in path}
    assert len(listings) == len(REVISIONS), "each checkpoint is asked for"


def test_the_same_weights_in_two_branches_are_refused_before_a_download(hub: StandInHub, folder: Path):
    shutil.copy(folder / "main" / "model.safetensors", folder / "step1" / "model.safetensors")
    with pytest.raises(SuiteError, match=r"'step1' and 'main' have the same weights, byte for byte \(model.safetens"):
        Compute().each(opened(), lambda index, model: None)
    assert weight_requests(hub) == []
    opened(allow_equal_weights=True).verify()
    Suite.open(NAME, ["step1", "step2"]).verify()


def test_one_shard_of_another_branch_is_refused_and_only_indices_are_downloaded(hub: StandInHub, folder: Path):
    for revision in REVISIONS:
        to_bin(folder / revision, sharded=True)
    opened().verify()
    file = "pytorch_model-00001-of-00002.bin"
    shutil.copy(folder / "main" / file, folder / "step2" / file)
    with pytest.raises(SuiteError, match=rf"'step2' and 'main' share 1 of 2 weight files, byte for byte \({file}\)"):
        opened().verify()
    assert weight_requests(hub) == []


def test_a_branch_without_weights_or_without_a_shard_is_refused_before_the_first_is_run(hub: StandInHub, folder: Path):
    (folder / "main" / "model.safetensors").unlink()
    message = r"weights of revision 'main' from somebody/tiny@main on the Hub: there are no weights"
    with pytest.raises(SuiteError, match=message):
        Compute().each(opened(), lambda index, model: None)
    to_bin(folder / "step2", sharded=True)
    (folder / "step2" / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(SuiteError, match=r"2 of the 3 revisions .*1 of the 2 files .* missing: pytorch_model-00002"):
        opened().verify()
    assert weight_requests(hub) == []


def test_a_branch_that_moved_to_other_weights_has_another_fingerprint(hub: StandInHub, folder: Path, offline):
    before = opened().fingerprint
    assert opened().fingerprint == before
    shutil.copy(folder / "step1" / "model.safetensors", folder / "main" / "model.safetensors")
    assert opened().fingerprint != before


def test_a_branch_that_moves_after_the_check_is_read_as_it_was(hub: StandInHub, folder: Path):
    suite = opened()
    suite.verify()
    with Compute().open(suite, "main") as model:
        verified = model.module.state_dict()["gpt_neox.embed_in.weight"].clone()
        assert model.name == f"{NAME}@main"
    hub.repositories = {NAME: branches(folder) | {"main": folder / "step2"}}
    with Compute().open(suite, "main") as model:
        assert torch.equal(model.module.state_dict()["gpt_neox.embed_in.weight"], verified)
    with Compute().open(Suite.open(NAME, ["main"]), "main") as model:
        assert not torch.equal(model.module.state_dict()["gpt_neox.embed_in.weight"], verified)


def test_a_local_copy_and_the_hub_have_the_same_fingerprint(hub: StandInHub, folder: Path):
    assert Suite.open(folder, REVISIONS).fingerprint == opened().fingerprint


def test_offline_the_cache_tells_the_same(hub: StandInHub, folder: Path, offline, tmp_path: Path):
    for revision in REVISIONS:
        huggingface_hub.snapshot_download(NAME, revision=revision)
    online = opened().fingerprint
    offline()
    asked = len(hub.asked)
    for remembered in (True, False):
        if not remembered:
            shutil.rmtree(tmp_path / "crosstime", ignore_errors=True)
        suite = opened()
        suite.verify(distinct=True)
        assert suite.fingerprint == online
        assert suite.weights("main").commit == commit(NAME, "main")
    assert len(hub.asked) == asked


def test_offline_a_checkpoint_without_weights_in_the_cache_is_refused(hub: StandInHub, offline, tmp_path: Path):
    for revision in REVISIONS:
        huggingface_hub.snapshot_download(
            NAME, revision=revision, ignore_patterns=["*.safetensors"] if revision == "main" else None
        )
    online = opened().fingerprint
    offline()
    message = (
        r"weights of revision 'main': model\.safetensors is not in the local cache of the Hub, and .*HF_HUB_OFFLINE"
    )
    with pytest.raises(SuiteError, match=message):
        opened().verify()
    opened().verify(weights_here=False)
    assert opened().fingerprint == online, "what the Hub listed is remembered"

    shutil.rmtree(tmp_path / "crosstime")
    with pytest.raises(SuiteError, match=message):
        opened().verify()
    assert len(opened().fingerprint) == 16, "the commit stands for the weights"


def write_cache(cache: Path, contents: dict[str, bytes]) -> None:
    """A cache of the Hub as its client writes it: blobs by digest, with links to them in the snapshot of a commit."""
    repository = cache / "models--somebody--tiny"
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    for revision, content in contents.items():
        name = hashlib.sha256(content).hexdigest()
        (repository / "blobs" / name).write_bytes(content)
        snapshot = repository / "snapshots" / commit(NAME, revision)
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").symlink_to(repository / "blobs" / name)
        (repository / "refs" / revision).write_text(commit(NAME, revision))


def test_the_names_of_blobs_are_compared_in_a_cache_written_by_hand(cache: Path, folder: Path, offline, monkeypatch):
    contents = {revision: (folder / revision / "model.safetensors").read_bytes() for revision in REVISIONS}
    write_cache(cache, contents | {"step2": contents["step1"]})
    offline()
    local = {revision: Suite.open(folder).config(revision) for revision in REVISIONS}
    monkeypatch.setattr(CheckpointFiles, "config", lambda self, checkpoint: local[checkpoint.revision])

    def refuse(paths):
        assert list(paths) == [], "the cache's own names are digests"
        return {}

    monkeypatch.setattr("crosstime.suites.weights.file_digests", refuse)
    (group,) = opened().equal_weights()
    assert group.as_fact() == {"revisions": ["step1", "step2"], "files": ["model.safetensors"], "complete": True}

    # Half a download in the cache is found without the Hub
    blob = (cache / "models--somebody--tiny" / "snapshots" / commit(NAME, "main") / "model.safetensors").resolve()
    blob.write_bytes(contents["main"][:-7])
    with pytest.raises(SuiteError, match=r"revision 'main' .*model\.safetensors is incomplete: it has"):
        opened().weights("main")


def test_a_copy_in_the_cache_of_another_size_than_on_the_hub_is_refused(hub: StandInHub, folder: Path):
    to_bin(folder / "main")
    huggingface_hub.snapshot_download(NAME, revision="main")
    opened().verify()
    path = Path(huggingface_hub.try_to_load_from_cache(NAME, "pytorch_model.bin", revision="main")).resolve()
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(SuiteError, match=r"pytorch_model\.bin has [\d,]+ bytes here and [\d,]+ on the Hub"):
        opened().verify()


def test_a_hub_that_cannot_be_reached_gives_the_whole_reason(cache: Path, monkeypatch):
    def unreachable(self, repository, **options):
        raise ConnectionError("no route to host\ndetails")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    monkeypatch.setattr(CheckpointFiles, "config", lambda self, checkpoint: None)
    with pytest.raises(SuiteError, match=r"nothing of it, and the Hub cannot be reached: no route to host details$"):
        opened().weights("main")


def test_an_unknown_revision_is_refused_with_what_the_hub_says(hub: StandInHub):
    with pytest.raises(SuiteError, match="'gone'") as caught:
        Suite.open(NAME, ["step1", "gone"]).verify()
    assert "\n" not in str(caught.value)
