"""A run on checkpoints with the same weights is refused before its first stage, or says so in what it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from checkpoint_folders import to_bin, write_suite
from small_run import home_of, recipe

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import SuiteError
from crosstime.runs.run import run

CHANGES = {
    "suite": {"source": "models"},
    "suite.tiny": dict.fromkeys(
        ("d_model", "n_layers", "n_heads", "vocab_size", "sequence_length", "batch_tokens", "steps", "warmup", "lr",
         "checkpoints")
    ),
    "compare": {"revisions": ["step64", "step128"]},
}  # fmt: skip
TASKS = [{"name": "agreement/simple", "limit": 40}]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A recipe on a folder of checkpoints."""
    home = home_of(tmp_path / "home", recipe(CHANGES, TASKS))
    write_suite(home / "models", ["step0", "step64", "step128"])
    return home


def equal(home: Path) -> None:
    shutil.copy(home / "models" / "step64" / "model.safetensors", home / "models" / "step128")


@pytest.mark.parametrize("compared", [["step64", "step128"], ["step0", "step64"], None])
def test_checkpoints_with_the_same_weights_are_refused_before_the_first_stage(home: Path, compared):
    equal(home)
    (home / "small.toml").write_text(recipe(CHANGES | {"compare": {"revisions": compared}}, TASKS))
    announced: list[str] = []
    with pytest.raises(SuiteError, match=r"'step64' and 'step128' have the same weights, .*suite\.allow_equal_weights"):
        run(home / "small.toml", home / "runs", announce=announced.append)
    assert announced == []
    assert not list((home / "runs").rglob("*.csv"))


@pytest.mark.slow
def test_allowed_equal_weights_are_recorded_in_what_the_run_writes(home: Path):
    equal(home)
    allowed = {"suite": {"source": "models", "allow_equal_weights": True}}
    (home / "small.toml").write_text(recipe(CHANGES | allowed, TASKS))
    result = run(home / "small.toml", home / "runs")
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["recipe"]["suite"]["allow_equal_weights"] is True
    assert {row["revision"]: row["equal_to"] for row in manifest["weights"]} == {
        "step0": "",
        "step64": "step128",
        "step128": "step64",
    }
    assert all(len(row["digest"]) == 64 for row in manifest["weights"])
    assert "have the same weights, byte for byte" in result.report.read_text()
    facts = CrossCoder.load(result.folder / "crosscoder.safetensors").origin.training
    assert facts["equal_weights"] == [
        {"revisions": ["step64", "step128"], "files": ["model.safetensors"], "complete": True}
    ]
    same = result.accuracy.set_index("revision")["logit_difference"]
    assert same["step64"] == same["step128"] != same["step0"]


@pytest.mark.slow
def test_other_weights_in_the_files_of_torch_repeat_the_stages(home: Path):
    for checkpoint in (home / "models").iterdir():
        to_bin(checkpoint)
    announced: list[str] = []
    first = run(home / "small.toml", home / "runs", announce=announced.append)
    tables = {path.name: path.read_bytes() for path in first.folder.glob("*.csv")}
    run(home / "small.toml", home / "runs", announce=announced.append)
    half = len(announced) // 2
    assert all(line.startswith("made") for line in announced[:half])
    assert all(line.startswith("kept") for line in announced[half:])

    shutil.rmtree(home / "models")
    for checkpoint in write_suite(home / "models", ["step0", "step64", "step128"], first_seed=50).iterdir():
        to_bin(checkpoint)
    announced.clear()
    run(home / "small.toml", home / "runs", announce=announced.append)
    assert all(line.startswith("made") for line in announced)
    assert tables["accuracy.csv"] != (first.folder / "accuracy.csv").read_bytes()
