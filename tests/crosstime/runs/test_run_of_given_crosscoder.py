"""A run with `crosscoder.source`: a crosscoder that exists, in place of a training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from small_run import SECTIONS, finished_run, home_of, recipe

import crosstime as ct
from crosstime.errors import CrosstimeError, RecipeError
from crosstime.runs.recipe.recipe import Recipe
from crosstime.suites.suite import Suite


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A finished run, whose suite and crosscoder others take."""
    return finished_run(home_of(tmp_path_factory.mktemp("first")))


def home(folder: Path, first: Path, source: Path | str, **compare: object) -> Path:
    """A recipe that takes the suite of the first run, and a crosscoder."""
    changes = {
        "suite": {"source": str(first / "suite")},
        "suite.tiny": dict.fromkeys(SECTIONS["suite.tiny"]),
        "crosscoder": {**dict.fromkeys(SECTIONS["crosscoder"]), "source": str(source)},
        "compare": compare,
    }
    return home_of(folder, recipe(changes))


def test_the_run_is_that_of_the_crosscoder_without_a_training(first: Path, tmp_path: Path):
    again = finished_run(home(tmp_path, first, first))
    assert torch.equal(
        ct.CrossCoder.load(again / "crosscoder.safetensors").W_dec,
        ct.CrossCoder.load(first / "crosscoder.safetensors").W_dec,
    )
    for name in ("effects", "ablation", "evaluation"):
        assert (again / f"{name}.csv").read_bytes() == (first / f"{name}.csv").read_bytes(), name
    assert pd.read_csv(again / "training.csv").empty
    assert not (again / "metrics.jsonl").exists()


def test_another_crosscoder_repeats_what_depends_on_it(first: Path, tmp_path: Path):
    crosscoder = ct.CrossCoder.load(first / "crosscoder.safetensors")
    crosscoder.save(tmp_path / "mine.safetensors")
    place = home(tmp_path, first, tmp_path / "mine.safetensors")
    before = json.loads((finished_run(place) / "manifest.json").read_text())["stages"]
    with torch.no_grad():
        crosscoder.W_dec.mul_(1.5)
    crosscoder.save(tmp_path / "mine.safetensors")
    after = json.loads((finished_run(place) / "manifest.json").read_text())["stages"]
    assert before["select"] == after["select"]
    assert before["train"]["key"] != after["train"]["key"]


def test_a_crosscoder_of_something_else_is_refused_before_anything_is_computed(first: Path, tmp_path: Path):
    crosscoder = ct.CrossCoder.load(first / "crosscoder.safetensors")
    other = replace(crosscoder.origin, revisions=("step12", "step0"))
    cases = [
        (
            {},
            {"revisions": ["step12", "step0"]},
            "was trained on step0, step12, but compare.revisions are step12, step0",
        ),
        ({}, {"site": "mlp.1"}, r"was trained at resid\.0, but compare\.site is mlp\.1"),
        ({"origin": other}, {}, "name the same in the same order"),
    ]
    for number, (changes, compare, sentence) in enumerate(cases):
        changed = ct.CrossCoder.load(first / "crosscoder.safetensors")
        for name, value in changes.items():
            setattr(changed, name, value)
        folder = tmp_path / str(number)
        folder.mkdir()
        changed.save(folder / "mine.safetensors")
        with pytest.raises(RecipeError, match=sentence):
            finished_run(home(folder, first, folder / "mine.safetensors", **compare))
        assert not (folder / "runs" / "small" / "accuracy.csv").exists()
    with pytest.raises(CrosstimeError, match=r"there is no crosscoder at \./nothing"):
        finished_run(home(tmp_path / "missing", first, "./nothing"))


def test_keys_that_have_no_meaning_with_a_crosscoder_are_refused(first: Path, tmp_path: Path):
    table = {
        "name": "x",
        "suite": {"source": "ORG/NAME"},
        "compare": {"site": "resid.0"},
        "corpus": {"source": "t.txt"},
    }
    table |= {"tasks": [{"name": "agreement/simple"}], "crosscoder": {"source": "ORG/CROSSCODER"}}
    with pytest.raises(RecipeError, match=r"crosscoder\.source: name its checkpoints as compare\.revisions"):
        Recipe.of(table)
    table["compare"] = {"site": "resid.0", "revisions": ["step0", "step12"]}
    with pytest.raises(RecipeError, match="train the crosscoder again"):
        Recipe.of(table | {"null": {"kinds": ["same-checkpoint"]}})
    assert Recipe.of(table).crosscoder.source == "ORG/CROSSCODER"
    assert isinstance(Suite.open(first / "suite"), Suite)
