"""The command line on checkpoints with the same weights: refused, or allowed by name and recorded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from checkpoint_folders import TEXT, write_suite

from crosstime.activations.manifest import read_manifest
from crosstime.cli.main import main
from crosstime.crosscoders.crosscoder import CrossCoder

SHORT = ("--site", "resid.0", "--length", "8")
VERBS = {
    "accuracy": ("accuracy", "models", "agreement/simple", "-n", "40", "-o", "out"),
    "similarity": ("similarity", "models", "text.txt", *SHORT, "--sequences", "4", "-o", "out"),
    "ngrams": ("ngrams", "models", "text.txt", "--length", "8", "--sequences", "4", "-o", "out"),
    "harvest": ("harvest", "models", "text.txt", "out", *SHORT, "--tokens", "70"),
    "train": ("train", "models", "--corpus", "text.txt", *SHORT, "--features", "8", "--steps", "2", "--batch", "16",
              "--evaluate", "4", "--held-out", "0.2", "-o", "out"),
}  # fmt: skip
TABLES = ("accuracy", "similarity", "ngrams")
OPTION = "--allow-equal-weights"


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    folder = write_suite(tmp_path_factory.mktemp("weights") / "models", ["step0", "step64", "step256"])
    return shutil.copytree(folder / "step64", folder / "step128").parent


@pytest.fixture
def folder(shared: Path, tmp_path: Path, monkeypatch) -> Path:
    """A working folder with a suite in which step128 is step64."""
    shutil.copytree(shared, tmp_path / "models")
    (tmp_path / "text.txt").write_text("\n".join(TEXT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def crosstime(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["crosstime", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_weights_are_refused_by_name_and_nothing_is_written(folder: Path, monkeypatch, capsys, verb: str):
    assert crosstime(monkeypatch, *VERBS[verb]) == 2
    message = capsys.readouterr().err.strip()
    assert "revisions 'step64' and 'step128' have the same weights, byte for byte (model.safetensors)" in message
    assert OPTION in message
    assert "\n" not in message
    assert not [path for path in folder.glob("out/**/*") if path.is_file()]


@pytest.mark.parametrize("verb", VERBS)
def test_the_option_allows_them_and_the_results_record_it(folder: Path, monkeypatch, verb: str):
    assert crosstime(monkeypatch, *VERBS[verb], OPTION) == 0
    fact = [{"revisions": ["step64", "step128"], "files": ["model.safetensors"], "complete": True}]
    if verb in TABLES:
        record = pd.read_csv(f"out/{verb}_weights.csv", keep_default_na=False).set_index("revision")
        assert record["equal_to"].to_dict() == {"step0": "", "step64": "step128", "step128": "step64", "step256": ""}
        assert record["digest"].nunique() == 3
    elif verb == "harvest":
        assert read_manifest("out")["equal_weights"] == fact
    else:
        assert CrossCoder.load("out/crosscoder.safetensors").origin.training["equal_weights"] == fact


@pytest.mark.parametrize("verb", TABLES)
def test_other_revisions_need_no_option_and_leave_no_record(folder: Path, monkeypatch, verb: str):
    assert crosstime(monkeypatch, *VERBS[verb], OPTION) == 0
    assert crosstime(monkeypatch, *VERBS[verb], "--revisions", "step0,step64,step256") == 0
    assert not Path(f"out/{verb}_weights.csv").exists()
