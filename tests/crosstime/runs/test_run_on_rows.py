"""A run on rows of parameters: its results are those of the functions by hand, and its page speaks of rows."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from small_run import SECTIONS, short_page

import crosstime as ct
from crosstime.activations.parameter_rows import parameter_rows
from crosstime.cli.main import main
from crosstime.errors import RecipeError
from crosstime.evolution.decoder_evolution import decoder_evolution
from crosstime.features.top_rows import top_rows
from crosstime.report.page.context import ROWS
from crosstime.runs.draw_report import draw_report
from crosstime.runs.plan.machine import Machine
from crosstime.runs.plan.plan import plan
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.report_input import report_input, shown_features
from crosstime.runs.stages import report as reporting
from crosstime.runs.status import status
from crosstime.suites.suite import Suite
from crosstime.training.train_rows import train_rows

STAGES = ["train", "evaluate", "evolve", "report"]
CONFIG = {"n_features": 12, "k": 3, "steps": 20, "lr": 1e-2}


def recipe(suite: Suite, /, **changes: object) -> Recipe:
    table = {
        "name": "weights",
        "suite": {"source": str(Path(suite.checkpoints[0].source).parent)},
        "rows": {"matrices": ["W_U", "mlp_out.-1"], "top": 2, "strongest": 3},
        "crosscoder": CONFIG | {"kind": "topk", "batch_size": 16},
    }
    return Recipe.of(table | changes)


@pytest.fixture(scope="module")
def announced() -> list[str]:
    return []


@pytest.fixture(scope="module")
def finished(brief_suite: Suite, tmp_path_factory, announced) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    return ct.run(recipe(brief_suite), folder, announce=announced.append).folder


@pytest.mark.slow
def test_results_are_those_of_the_functions(brief_suite, finished, announced):
    assert announced == ["made the crosscoder", "made how good it is", "made features over time", "made the report"]
    assert [stage.name for stage in status(finished).stages] == STAGES
    rows = parameter_rows(brief_suite, ["W_U", "mlp_out.1"])
    trained = train_rows(rows, ct.TopKConfig(**CONFIG), data=ct.DataConfig(batch_size=16))
    crosscoder = ct.CrossCoder.load(finished / "crosscoder.safetensors")
    assert torch.equal(crosscoder.W_dec, trained.crosscoder.W_dec)
    assert crosscoder.origin.rows == "W_U+mlp_out.1"

    # The tables, of the features that fire
    listed = pd.read_csv(finished / "rows.csv", keep_default_na=False)
    expected = top_rows(crosscoder, rows, most=3)
    assert listed[["feature", "row"]].to_numpy().tolist() == expected[["feature", "row"]].to_numpy().tolist()
    assert any(label.startswith("mlp_out.1 neuron ") for label in listed.label)
    alive = sorted(set(listed.feature))
    evolution = pd.read_csv(finished / "evolution" / "evolution.csv")
    assert evolution.feature.tolist() == alive
    whole = decoder_evolution(crosscoder)["evolution"].set_index("feature").loc[alive]
    assert evolution.rotation.tolist() == pytest.approx(whole.rotation.tolist(), rel=1e-5, nan_ok=True)
    assert evolution.life_cycle.tolist() == whole.life_cycle.astype(str).tolist()
    shares = pd.read_csv(finished / "evolution" / "life_cycle_shares.csv")
    assert shares["count"].sum() == len(alive)

    # The two features of each life cycle that write most
    facts = pd.read_csv(finished / "evolution" / "facts.csv")
    assert facts.written.is_monotonic_decreasing
    for life_cycle, group in evolution.groupby("life_cycle"):
        largest = group.sort_values("written", ascending=False).feature[:2].tolist()
        assert facts.feature[facts.life_cycle_dec == life_cycle].tolist() == largest


@pytest.mark.slow
def test_the_page_speaks_of_rows_and_has_no_section_about_effects(finished):
    report = report_input(finished)
    facts = pd.read_csv(finished / "evolution" / "facts.csv")
    assert shown_features(finished) == facts.feature.tolist()
    listed = pd.read_csv(finished / "rows.csv", keep_default_na=False)
    for feature, (context,) in report.contexts.items():
        assert context.source == ROWS
        assert list(context.tokens) == listed.label[listed.feature == feature].tolist()
    page = (finished / "report.html").read_text(encoding="utf-8")
    for anchor in ("overview", "crosscoder", "decoders", "rows", "features"):
        assert f'<section id="{anchor}"' in page
    for anchor in ("effects", "temporal", "ablation"):
        assert f'id="{anchor}"' not in page
    assert "active features per row" in page
    assert "held-out text" not in page
    assert page.count(' data-chart="norms"') == page.count(' data-chart="onsets"') == 1
    assert "rows of W_U+mlp_out.1" in (finished / "summary.csv").read_text()


@pytest.mark.slow
def test_the_run_is_kept_drawn_again_and_annotated(brief_suite, finished, tmp_path, monkeypatch, capsys):
    # A second run keeps everything; a changed list repeats what depends on it
    lines: list[str] = []
    copy = Path(shutil.copytree(finished, tmp_path / "runs" / "weights"))
    ct.run(recipe(brief_suite), tmp_path / "runs", announce=lines.append)
    assert [line.split()[0] for line in lines] == ["kept"] * 4
    lines.clear()
    page = (copy / "report.html").read_bytes()

    # The page comes again from the files alone
    shutil.rmtree(copy / "charts")
    (copy / "report.html").unlink()
    draw_report(copy)
    assert (copy / "report.html").read_bytes() == page

    # Sheets have the features of the page
    monkeypatch.setattr(sys, "argv", ["crosstime", "annotate", str(copy)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    sheet = pd.read_csv(copy / "annotations" / "annotations.csv")
    assert sheet.feature.tolist() == shown_features(copy)
    text = (copy / "annotations" / "annotations.html").read_text(encoding="utf-8")
    assert "W_U+mlp_out.1" in text
    filled = copy / "annotations" / "annotations.csv"
    filled.write_text(f"feature,description\n{sheet.feature[0]},months\n")
    notes = ct.read_annotations(filled, shown_features(copy))
    assert report_input(copy, notes).facts.set_index("feature").description[sheet.feature[0]] == "months"


@pytest.mark.slow
def test_a_crosscoder_of_these_rows_takes_the_place_of_a_training(brief_suite, finished, tmp_path):
    source = {"crosscoder": {"source": str(finished / "crosscoder.safetensors")}}
    named = {"compare": {"revisions": list(brief_suite.revisions)}}
    other = ct.run(recipe(brief_suite, **source, **named), tmp_path)
    assert (other.folder / "rows.csv").read_bytes() == (finished / "rows.csv").read_bytes()
    with pytest.raises(RecipeError, match=r"was trained on rows of W_U\+mlp_out.1, but rows.matrices are those of W_E"):
        ct.run(recipe(brief_suite, **source, **named, rows={"matrices": ["W_E"]}), tmp_path / "two")
    assert not (tmp_path / "two" / "weights" / "crosscoder.safetensors").exists()


TASKS = [{"name": "agreement/simple"}]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tasks": TASKS}, r"tasks: a run on rows of parameters has no prompts"),
        ({"corpus": {"source": "text.txt"}}, r"corpus: a run on rows of parameters reads no text"),
        ({"compare": {"site": "resid.0"}}, r"compare.site: rows of parameters are read from their matrices"),
        ({"null": {"kinds": ["random-weights"]}}, r"null.kinds has no meaning in a run on rows"),
        ({"effects": {"top": 3}}, r"effects.top has no meaning in a run on rows"),
        ({"evolve": {"text": False}}, r"evolve.text has no meaning in a run on rows"),
        ({"rows": {"matrices": ["W_V"]}}, r"rows.* matrices: There is no matrix 'W_V'"),
        ({"rows": {"matrices": ["W_U", "W_U"]}}, r"matrices: W_U is there twice"),
        ({"rows": {"matrices": [], "top": 3}}, r"rows.matrices: name at least one matrix"),
        ({"crosscoder": {"seeds": [1, 2]}}, r"crosscoder.seeds: one crosscoder at a time"),
        ({"crosscoder": {"validation": 0.1}}, r"crosscoder.validation must be 0"),
        ({"suite": {"source": "tiny"}}, r"\[corpus\] needs a key 'source'"),
        ({"compute": {"feature_shards": 2}}, r"compute.feature_shards must be 1"),
    ],
)
def test_what_rows_do_not_have_is_refused(brief_suite, changes, sentence):
    with pytest.raises(RecipeError, match=sentence):
        recipe(brief_suite, **changes)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({}, r"\[compare\] needs a key 'site'"),
        ({"compare": {"site": "resid.0"}}, r"\[corpus\] needs a key 'source'"),
        ({"compare": {"site": "resid.0"}, "corpus": {"source": "agreement"}}, r"at least one \[\[tasks\]\]"),
    ],
)
def test_a_recipe_without_rows_needs_what_it_always_did(table, sentence):
    with pytest.raises(RecipeError, match=sentence):
        Recipe.of({"name": "plain", "suite": {"source": "tiny"}} | table)


def test_a_layer_that_the_model_does_not_have_is_refused_before_anything_is_written(brief_suite, tmp_path):
    with pytest.raises(ct.interventions.InterventionError, match="Layer 9 does not exist"):
        ct.run(recipe(brief_suite, rows={"matrices": ["mlp_in.9"]}), tmp_path)
    assert not (tmp_path / "weights").exists()


@pytest.mark.slow
def test_the_manifest_records_the_rows(finished):
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["recipe"]["rows"] == {"matrices": ["W_U", "mlp_out.-1"], "top": 2, "strongest": 3}
    assert list(manifest["stages"]) == STAGES


@pytest.mark.parametrize("name", ["parameter-rows", "parameter-rows-pythia-160m"])
def test_shipped_recipes_state_what_they_cost(name):
    machine = Machine("cpu", "a laptop", 2e11, 3e10, 32 * 10**9, 32 * 10**9, 10**12)
    shipped = Recipe.named(name)
    estimate = plan(shipped, machine)
    suite = ["suite"] if shipped.suite.source == "tiny" else []
    assert [cost.stage for cost in estimate.costs] == [*suite, *STAGES]
    assert not estimate.objections


@pytest.mark.slow
def test_models_side_by_side_have_patterns_in_place_of_life_cycles(brief_suite, tmp_path):
    early, late = (checkpoint.source for checkpoint in brief_suite)
    beside = recipe(brief_suite, suite={"models": {"base": early, "chat": late}}, rows={"matrices": ["mlp_in.0"]})
    lines: list[str] = []
    done = ct.run(beside, tmp_path, announce=lines.append)
    assert lines[2] == "made features across models"
    assert (done.accuracy.empty, done.effects.empty, done.rows.empty) == (True, True, False)
    assert list(done.tables()) == ["the crosscoder", "the strongest rows of each feature"]
    facts = pd.read_csv(done.folder / "evolution" / "facts.csv")
    assert "onset" not in facts
    assert all(label == "shared" or label.startswith("specific to ") for label in facts.sharing_dec)
    page = done.report.read_text(encoding="utf-8")
    assert "at 2 models" in done.summary
    assert "one of each pattern" not in page
    assert "of each pattern" in page
    assert "mlp_in.0 neuron " in page


@pytest.mark.slow
def test_a_suite_that_is_trained_in_the_run_is_read_at_all_of_its_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "write_report", short_page)
    tiny = SECTIONS["suite.tiny"] | {"checkpoints": [0, 6, 12]}
    table = {
        "name": "tiny-rows",
        "suite": {"source": "tiny", "tiny": tiny},
        "corpus": {"source": "agreement", "sentences": 300},
        "rows": {"matrices": ["W_E"]},
        "crosscoder": CONFIG | {"kind": "topk", "batch_size": 16},
    }
    done = ct.run(Recipe.of(table), tmp_path)
    assert [stage.name for stage in status(done.folder).stages] == ["suite", *STAGES]
    assert done.crosscoder.origin.revisions == ("step0", "step6", "step12")
    assert str(done.crosscoder.origin.site) == "resid.0"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["null", "describe"])
def test_what_needs_tasks_is_refused_in_a_sentence(finished, tmp_path, monkeypatch, capsys, verb):
    run = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["crosstime", verb, str(run)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "rows of parameters" in capsys.readouterr().err
    assert status(run).finished
    assert not (run / "nulls").exists()
    assert not list((run / "descriptions").glob("*.jsonl"))
