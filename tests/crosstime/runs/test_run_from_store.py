"""A recipe whose source of activations is a store: what it trains, and what it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import crosstime as ct
from crosstime.activations.harvest import harvest
from crosstime.activations.store import ActivationStore
from crosstime.errors import CrosstimeError, RecipeError, StoreError
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.plan.machine import Machine
from crosstime.runs.plan.plan import plan
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.recipe.suite import CompareRecipe
from crosstime.runs.stages import report as reporting
from crosstime.suites.suite import Suite
from interventions import Site
from tasks.agreement import sentences

pytestmark = pytest.mark.slow

TEXT = list(sentences(1200, seed=1))
SETTINGS = {"sequence_length": 12, "dtype": "float32"}
TRAINED = {"n_features": 32, "steps": 30, "lr": 1e-2, "l1": 0.2}
SIZE = {"batch_size": 64, "buffer_tokens": 2_000}


@pytest.fixture(scope="module")
def folder(learning_suite: Suite, tmp_path_factory) -> Path:
    """A folder with a store of two checkpoints, and with other text."""
    folder = tmp_path_factory.mktemp("from_store")
    harvest(learning_suite.select(["step0", "step40"]), Site(0), TEXT, folder / "store", **SETTINGS)
    (folder / "held_out.txt").write_text("\n".join(sentences(300, seed=2)))
    return folder


def recipe(suite: Suite, folder: Path, *overrides: str, **corpus: Any) -> Recipe:
    table = {
        "name": "stored",
        "suite": {"source": str(Path(suite.checkpoints[0].source).parent)},
        "compare": {"revisions": ["step0", "step40"], "site": "resid.0"},
        "corpus": {"source": str(folder / "store"), "held_out": str(folder / "held_out.txt"), "sequence_length": 12},
        "crosscoder": TRAINED | SIZE,
        "tasks": [{"name": "agreement/simple", "limit": 8}],
        "effects": {"top": 2, "resamples": 20},
        "evolve": {"text": False, "resamples": 20},
    }
    table["corpus"] |= corpus
    table["corpus"] = {name: value for name, value in table["corpus"].items() if value is not None}
    return Recipe.of(table, overrides=overrides)


def test_a_run_trains_on_a_store_what_training_on_it_gives(learning_suite: Suite, folder: Path, tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "write_report", lambda report, folder: (folder / "report.html").write_text("a page"))
    done = ct.run(recipe(learning_suite, folder), tmp_path)
    store = ActivationStore.open(folder / "store")
    assert torch.equal(done.crosscoder.scales, store.scales)
    compared = learning_suite.select(["step0", "step40"])
    trained = ct.train(compared, Site(0), store, ct.L1Config(**TRAINED), data=ct.DataConfig(**SIZE))
    assert torch.equal(done.crosscoder.W_dec, trained.crosscoder.W_dec)


def test_another_store_is_another_input(learning_suite: Suite, folder: Path, tmp_path):
    first = Inputs(recipe(learning_suite, folder), RunFolder(tmp_path / "run")).corpus_identity()
    harvest(learning_suite.select(["step0", "step40"]), Site(0), TEXT[:400], tmp_path / "store", **SETTINGS)
    second = Inputs(recipe(learning_suite, tmp_path), RunFolder(tmp_path / "run")).corpus_identity()
    assert first["store"] != second["store"]


def test_a_plan_harvests_nothing_for_a_store(learning_suite: Suite, folder: Path):
    machine = Machine("cpu", "2 cores", 1e11, 1e10, memory=8 * 10**9, device_memory=8 * 10**9, disk=10**11)
    overrides = [f"corpus.source={folder / 'held_out.txt'}"], []
    text, stored = (
        next(cost for cost in plan(recipe(learning_suite, folder, *override), machine).costs if cost.stage == "train")
        for override in overrides
    )
    width, tokens = 2 * 16 * 32, 30 * 64
    assert stored.flops == 10 * width * tokens
    assert text.flops > stored.flops
    assert text.memory > stored.memory
    assert stored.what.endswith("from a store")


@pytest.mark.parametrize(
    ("overrides", "corpus", "message"),
    [
        (["compare.site=resid.1"], {}, r"site was 'resid\.0' and is now 'resid\.1'"),
        (['compare.revisions=["step0", "step10"]'], {}, r"revisions was \['step0', 'step40'\]"),
        (["crosscoder.validation=0.1"], {}, "crosscoder.validation must be 0: a store"),
        (["suite.source=tiny"], {}, "a suite that is trained in the run has no stored activations"),
        ([], {"held_out": None}, r"corpus\.held_out: name a text to evaluate on"),
    ],
)
def test_what_a_store_cannot_give_is_refused_before_anything_is_done(
    learning_suite: Suite, folder: Path, tmp_path, overrides: list[str], corpus: dict, message: str
):
    with pytest.raises(CrosstimeError, match=message):
        ct.run(recipe(learning_suite, folder, *overrides, **corpus), tmp_path)
    assert not (tmp_path / "stored" / "crosscoder.safetensors").exists()


def test_checkpoints_must_be_named_and_held_out_must_be_text(learning_suite: Suite, folder: Path, tmp_path):
    store = str(folder / "store")
    chosen = replace(recipe(learning_suite, folder), compare=CompareRecipe("resid.0"))
    with pytest.raises(RecipeError, match=r"compare\.revisions: name those of the store .*step0, step40"):
        ct.run(chosen, tmp_path)
    with pytest.raises(RecipeError, match=r"corpus\.held_out must be a text"):
        ct.run(recipe(learning_suite, folder, held_out=store), tmp_path)
    with pytest.raises(StoreError, match="must be the only source"):
        ct.run(recipe(learning_suite, folder, source=[store, str(folder / "held_out.txt")]), tmp_path)
