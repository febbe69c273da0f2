"""A run of models side by side: from a recipe with `suite.models` to a report that speaks of models."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from checkpoint_folders import write_suite
from small_run import SECTIONS
from transformers import AutoModelForCausalLM, AutoTokenizer

import crosstime as ct
from crosstime.errors import RecipeError, SuiteError
from crosstime.evolution.life_cycles import life_cycle_table
from crosstime.runs.open_suite import open_suite
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.run import RunResult
from tasks.agreement import sentences

ROOM = {key: dict(values) for key, values in SECTIONS.items() if key not in ("", "suite", "suite.tiny", "compare")}


def tables(models: dict[str, str], corpus: Path, **compare: object) -> dict:
    return {
        "name": "models",
        "suite": {"models": models},
        "compare": {"site": "resid.0", **compare},
        **ROOM,
        "corpus": {"source": str(corpus), "sequence_length": 12},
        "effects": {"top": 3, "steps": 2, "resamples": 20},
        "evolve": {"text": True, "sequences": 8, "resamples": 10},
        "tasks": [{"name": "agreement/simple", "limit": 6}],
        "null": {"kinds": ["same-checkpoint"]},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A base model, one that was trained further with added tokens, and a text."""
    home = tmp_path_factory.mktemp("side-by-side")
    write_suite(home, ["base", "other"])
    model, words = (kind.from_pretrained(home / "base") for kind in (AutoModelForCausalLM, AutoTokenizer))
    words.add_tokens(["<|im_start|>"], special_tokens=True)
    model.resize_token_embeddings(len(words), mean_resizing=False)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.05).add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
    model.save_pretrained(home / "chat")
    words.save_pretrained(home / "chat")
    (home / "text.txt").write_text("\n".join(sentences(300, seed=1)))
    return home


@pytest.fixture(scope="module")
def result(folder: Path) -> RunResult:
    models = {name: str(folder / name) for name in ("base", "chat", "other")}
    lines: list[str] = []
    result = ct.run(Recipe.of(tables(models, folder / "text.txt")), folder / "runs", announce=lines.append)
    (folder / "progress.txt").write_text("\n".join(lines))
    return result


@pytest.mark.long
def test_lines_of_progress_speak_of_models(result: RunResult, folder: Path):
    output = (folder / "progress.txt").read_text()
    assert "made accuracy of every model" in output
    assert "made features across models" in output
    assert "checkpoint" not in output
    assert "over time" not in output


@pytest.mark.slow
def test_the_report_speaks_of_models_and_of_no_time(result: RunResult):
    page = result.report.read_text(encoding="utf-8")
    text = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    output = re.sub(r"<[^>]+>", " ", text).replace("same-checkpoint", "(the name of a null model)")
    assert "base, chat, other" in output
    for word in ("checkpoint", "training tokens", "emerg", "life cycle", "onset", "given up", "discontinued"):
        assert word not in output.lower(), word
    assert "Accuracy at the compared models" in output
    charts = {path.stem for path in (result.folder / "charts").iterdir()}
    assert "accuracy" in charts
    assert "onsets" not in charts
    for svg in (result.folder / "charts").glob("*.svg"):
        assert "checkpoint" not in svg.read_text(encoding="utf-8"), svg.name
    assert '"noun":"model"' in page


@pytest.mark.slow
def test_the_tables_tell_which_models_have_a_feature(result: RunResult):
    lives = pd.read_csv(result.folder / "evolution" / "life_cycles.csv")
    effects = result.effects.pivot_table(index="feature", columns="revision", values="ie").abs()
    for row in lives.itertuples():
        values = effects.loc[row.feature, ["base", "chat", "other"]]
        there = [name for name in values.index if values.max() > 0 and values[name] >= values.max() * 3 / 7]
        if len(there) == 3:
            assert (row.life_cycle, row.label) == ("shared", "shared")
        elif len(there) == 2:
            assert (row.life_cycle, row.label) == ("partly shared", f"shared by {there[0]} and {there[1]}")
        elif there:
            assert (row.life_cycle, row.label) == ("specific", f"specific to {there[0]}")
    assert pd.read_csv(result.folder / "evolution" / "rotation_steps.csv").empty
    assert pd.read_csv(result.folder / "evolution" / "evolution.csv").onset.isna().all()
    assert pd.read_csv(result.folder / "dips.csv").empty
    assert set(pd.read_csv(result.folder / "nulls.csv").claim) >= {"shared", "specific", "partly shared"}
    assert not result.crosscoder.origin.ordered
    assert not ct.CrossCoder.load(result.folder / "crosscoder.safetensors").origin.ordered


def test_patterns_of_sharing_have_the_names_of_the_models():
    presence = torch.tensor([[True, True, True], [False, True, False], [True, False, True], [False, False, False]])
    table = life_cycle_table(presence, ["base", "chat", "lora"], [3, 5, 7, 9], ordered=False)
    assert table.label.tolist() == ["shared", "specific to chat", "shared by base and lora", "never"]
    assert table.life_cycle.tolist() == ["shared", "specific", "partly shared", "never"]


def test_a_recipe_compares_all_of_its_models_or_those_that_it_names(folder: Path):
    models = {"base": str(folder / "base"), "chat": "ORG/chat@main"}
    assert Recipe.of(tables(models, folder / "text.txt")).compare.revisions == ["base", "chat"]
    named = Recipe.of(tables(models, folder / "text.txt", revisions=["chat", "base"]))
    assert named.compare.revisions == ["chat", "base"]
    relative = Recipe.of(tables({"base": "base", "chat": "ORG/chat@main"}, folder / "text.txt"), base=folder)
    assert relative.suite.models == models
    changed = Recipe.of(tables(models, folder / "text.txt"), overrides=["suite.models.chat=ORG/other"])
    assert changed.suite.models["chat"] == "ORG/other"


@pytest.mark.parametrize(
    ("suite", "sentence"),
    [
        ({}, "needs a key 'source' or a table 'models'"),
        ({"source": "x", "models": {"a": "b"}}, "and not both"),
        ({"models": {"a": "b"}, "tokens_per_step": 5}, "tokens_per_step has no step to count"),
        ({"models": {"a": "b"}, "revisions": ["c"]}, "there is no model 'c'"),
        ({"models": {"a": 3}}, r"suite.models.a must be a text"),
    ],
)
def test_a_suite_of_a_recipe_is_a_source_or_models(suite: dict, sentence: str, folder: Path):
    table = tables({}, folder / "text.txt") | {"suite": suite}
    with pytest.raises(RecipeError, match=sentence):
        Recipe.of(table)


def test_a_missing_suite_of_another_recipe_is_named_with_the_command_that_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = "the recipe demo makes it: crosstime run demo --runs runs"
    with pytest.raises(SuiteError, match=f"model 'base': there is no folder runs/demo/suite/step64; {command}"):
        ct.run("diff-demo", tmp_path / "runs")
    # A folder that no recipe makes has no advice
    models = {"a": "runs/mine/suite/step64", "b": "x"}
    table = replace(Recipe.named("diff-demo").suite, models=models)
    with pytest.raises(SuiteError, match="there is no folder runs/mine/suite/step64, and it is not a Hub"):
        open_suite(
            replace(table, models={"a": "runs/mine/suite/step64", "b": "x"}), "r", trained_here=None, text_start=""
        )
