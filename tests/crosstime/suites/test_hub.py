"""A suite given as a Hub name: its revisions are listed, fetched once, and measured as those of a folder are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import stand_in_hub
from huggingface_hub import constants

from crosstime.errors import SuiteError
from crosstime.suites.accuracy import accuracy
from crosstime.suites.hub import branches, cached_branches
from crosstime.suites.similarity import similarity
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from crosstime.suites.tiny_config import TinyConfig
from crosstime.suites.train_tiny_suite import train_tiny_suite
from interventions import Site
from tasks import load
from tasks.agreement import sentences

ROOT = Path(__file__).resolve().parents[3]
NAME = "somebody/tiny"
SMALL = TinyConfig(
    d_model=16,
    n_layers=2,
    n_heads=2,
    vocab_size=512,
    sequence_length=16,
    batch_tokens=64,
    steps=6,
    checkpoints=(0, 3, 6),
    lr=1e-2,
    warmup=2,
)
TEXT = list(sentences(60, seed=3))
# The client reads its settings when it is imported: a process of its own sets them before. The measurements are
# made twice, the second time without the Hub.
SESSION = """
import json, os, sys
from pathlib import Path
from stand_in_hub import StandInHub

folder, name = Path(sys.argv[1]), sys.argv[2]
branches = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
hub = StandInHub({name: {"main": branches.pop("step6"), **branches, "notes": folder / "step0"}})
os.environ["HF_ENDPOINT"] = hub.url

from huggingface_hub import constants
from crosstime.cli.main import main

def crosstime(*arguments):
    sys.argv = ["crosstime", *arguments]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, (arguments, stop.code)

def measure(out):
    crosstime("accuracy", name, "agreement/simple", "-n", "12", "-o", out)
    crosstime("similarity", name, "text.txt", "--site", "resid.0", "--sequences", "4", "--length", "8", "-o", out)
    crosstime("select", "-o", out, "-k", "2")

with hub:
    measure("online")
Path("asked.json").write_text(json.dumps(hub.asked))
constants.HF_HUB_OFFLINE = True
measure("offline")
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "models"
    train_tiny_suite(folder, sentences(1500, seed=0), SMALL)
    return folder


@pytest.fixture(scope="module")
def session(suite: Path, tmp_path_factory) -> Path:
    """A folder in which the three verbs were run on a Hub name, and then again offline."""
    folder = tmp_path_factory.mktemp("session")
    (folder / "text.txt").write_text("\n".join(TEXT))
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(suite), NAME],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "PYTHONPATH": path, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_hub_name_is_measured_as_its_folder_is(session: Path, suite: Path):
    local = Suite.open(suite, ["step0", "step3", "step6"])
    names = {"step0": "step0", "step3": "step3", "main": "step6"}
    task = load("agreement/simple", limit=12)
    expected = accuracy(local, task, sentences=True)
    table = pd.read_csv(session / "online" / "accuracy.csv")
    assert table["revision"].tolist() == list(names), "the branch that tells no step is no checkpoint"
    assert table["step"].tolist()[:2] == [0, 3]
    assert [names[revision] for revision in table["revision"]] == expected["revision"].tolist()
    measured = [name for name in expected if name not in ("revision", "step", "tokens")]
    pd.testing.assert_frame_equal(table[measured], expected[measured], check_dtype=False)
    alike = similarity(local, Site(0), TEXT, TextSample(4, 8))
    table = pd.read_csv(session / "online" / "similarity.csv")
    pd.testing.assert_frame_equal(table[["cosine", "pearson", "cka"]], alike[["cosine", "pearson", "cka"]])
    chosen = json.loads((session / "online" / "selection.json").read_text())["revisions"]
    assert len(chosen) == 2
    assert set(chosen) <= set(names)


@pytest.mark.slow
def test_offline_the_revisions_in_the_cache_give_the_same_without_a_request(session: Path):
    for name in ("accuracy.csv", "similarity.csv", "selection.json"):
        assert (session / "offline" / name).read_bytes() == (session / "online" / name).read_bytes()


@pytest.mark.slow
def test_the_hub_is_asked_for_its_branches_and_for_the_weights_of_a_checkpoint_once(session: Path):
    asked = json.loads((session / "asked.json").read_text())
    assert asked.count(f"GET /api/models/{NAME}/refs") == 2, "one for accuracy, one for similarity"
    weights = [request for request in asked if request.startswith("GET") and request.endswith("model.safetensors")]
    assert len(weights) == len(set(weights)) == 3
    assert not [path for path in asked if "notes" in path]


def test_the_cache_knows_the_branches_that_were_read(tmp_path: Path, monkeypatch):
    refs = tmp_path / "models--somebody--tiny" / "refs"
    (refs / "refs" / "pr").mkdir(parents=True)
    for name in ("step3", "main", "refs/pr/1"):
        (refs / name).write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert cached_branches(NAME) == ("main", "refs/pr/1", "step3")
    assert cached_branches("somebody/else") == ()

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert branches(NAME) == ("main", "refs/pr/1", "step3")
    assert Suite.open(NAME).revisions == ("step3", "main")
    with pytest.raises(SuiteError, match=r"'somebody/else': .*offline.*nothing of it is in the local cache"):
        branches("somebody/else")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def unreachable(repository):
        raise ConnectionError("no route to host\ndetails")

    monkeypatch.setattr("huggingface_hub.list_repo_refs", unreachable)
    with pytest.raises(SuiteError, match=r"'no route to host details'.*\(the local cache holds main, .*step3\)$"):
        branches(NAME)


@pytest.mark.parametrize(("name", "code"), [("somebody/tiny", 200), ("somebody/else", 404)])
def test_the_stand_in_lists_branches_as_the_client_reads_them(tmp_path: Path, name: str, code: int):
    import httpx

    with stand_in_hub.StandInHub({NAME: {"main": tmp_path, "step3": tmp_path}}) as hub:
        answer = httpx.get(f"{hub.url}/api/models/{name}/refs", trust_env=False)
    assert answer.status_code == code
    if code == 200:
        assert [branch["name"] for branch in answer.json()["branches"]] == ["main", "step3"]
    else:
        assert answer.headers["X-Error-Code"] == "RepoNotFound"
