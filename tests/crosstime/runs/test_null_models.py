"""Null models of a small run: the whole way from the recipe to the table, and what cannot have them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_run import contents, finished_run, home_of, recipe, short_page

import crosstime as ct
from crosstime.cli.main import main
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosstimeError, RecipeError, RunError
from crosstime.evolution.null_names import NULLS
from crosstime.runs.manifest import read_manifest
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages import report as reporting
from crosstime.runs.status import status

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run without null models."""
    return finished_run(home_of(tmp_path_factory.mktemp("null")))


@pytest.fixture(scope="module")
def with_nulls(finished) -> tuple[Path, pd.DataFrame, dict[str, object], dict[str, object], list[str]]:
    """The run with all null models, their table, what the run held before and after, and what was announced."""
    before, lines = contents(finished), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "write_report", short_page)
        table = ct.null_models(finished, NULLS, announce=lines.append)
    return finished, table, before, contents(finished), lines


def test_a_finished_run_gets_null_models_and_keeps_its_own_results(with_nulls):
    folder, table, before, after, lines = with_nulls
    assert [line for line in lines if line.startswith("made")] == ["made null models", "made the report"]
    assert {name: after[name] for name in before if name != "summary.csv"} == {
        name: value for name, value in before.items() if name != "summary.csv"
    }
    assert dict.fromkeys(table["null"]) == dict.fromkeys(NULLS)
    assert status(folder).finished
    # Checkpoints and accuracy of the run, everything else once for each null model
    for null in NULLS:
        stages = read_manifest(folder / "nulls" / f"{null}-0")["stages"]
        assert list(stages) == ["select", "train", "attribute", "evolve", "explain"]


def test_the_table_counts_what_the_crosscoders_of_the_null_models_say(with_nulls):
    folder, table, *_ = with_nulls
    for null in NULLS:
        rows = table[(table["null"] == null) & (table.source == "decoder norm")].set_index("claim")
        crosscoder = CrossCoder.load(folder / "nulls" / f"{null}-0" / "crosscoder.safetensors")
        norms = crosscoder.decoder_norms().T
        assert 0 < rows.null_n.iloc[0] <= len(norms)
        if rows.null_n.iloc[0] == len(norms):
            ratio = norms / norms.amax(1, keepdim=True)
            assert rows.null_count["always"] == int((ratio >= 3 / 7).all(1).sum())
        assert rows.null_count.sum() == rows.null_n.iloc[0]
    assert (table.low <= table.expected).all()
    assert (table.expected <= table.high).all()
    np.testing.assert_allclose(table.expected, table.n * table.null_count / table.null_n)


def test_the_crosscoder_of_the_same_checkpoint_has_the_same_scales_everywhere(with_nulls):
    folder = with_nulls[0]
    same = CrossCoder.load(folder / "nulls" / "same-checkpoint-0" / "crosscoder.safetensors")
    run = CrossCoder.load(folder / "crosscoder.safetensors")
    assert same.scales[0] == same.scales[1] == pytest.approx(run.scales[-1].item())
    null = read_manifest(folder / "nulls" / "same-checkpoint-0")["null"]
    assert null == {"kind": "same-checkpoint", "seed": 0, "checkpoint": None}
    assert {group["revisions"][1] for group in same.origin.training["equal_weights"]} == {"step12"}


def test_noise_is_of_the_size_of_the_error_term(with_nulls):
    folder = with_nulls[0]
    noise = CrossCoder.load(folder / "nulls" / "same-checkpoint-noise-0" / "crosscoder.safetensors")
    run = CrossCoder.load(folder / "crosscoder.safetensors")
    error = pd.read_csv(folder / "evaluation.csv").error.iloc[-1]
    expected = (error / run.origin.d_model) ** 0.5 / run.scales[-1].item()
    assert noise.origin.training["null"]["noise"] == pytest.approx([expected] * 2)
    assert not torch.equal(noise.W_dec[:, 0], noise.W_dec[:, 1])


def test_frozen_weights_are_those_of_the_initialisation(with_nulls):
    folder = with_nulls[0]
    run = CrossCoder.load(folder / "crosscoder.safetensors")
    initial = Recipe.load(folder.parent.parent / "small.toml").crosscoder.config().crosscoder(run.origin)
    for name, weight in (("encoder", "W_enc"), ("decoder", "W_dec")):
        frozen = CrossCoder.load(folder / "nulls" / f"frozen-{name}-0" / "crosscoder.safetensors")
        assert torch.equal(getattr(frozen, weight), getattr(initial, weight))
        assert not torch.equal(getattr(frozen, weight), getattr(run, weight))


def test_a_null_model_is_not_trained_again(with_nulls, monkeypatch):
    folder, table, *_ = with_nulls
    monkeypatch.setattr(reporting, "write_report", short_page)
    path = folder / "nulls" / "permuted-tokens-0" / "crosscoder.safetensors"
    changed_at = path.stat().st_mtime_ns
    fewer = ct.null_models(folder, ["permuted-tokens"])
    assert path.stat().st_mtime_ns == changed_at
    rows = table[table["null"] == "permuted-tokens"].reset_index(drop=True)
    pd.testing.assert_frame_equal(fewer, rows)


def test_the_findings_have_the_expected_number_beside_each_count(with_nulls):
    findings = with_nulls[3]["summary.csv"].decode()
    assert findings.count("expected under the null") >= 1
    assert "expected under the null" not in with_nulls[2]["summary.csv"].decode()


def test_the_command_line_shows_the_claims_that_are_false(with_nulls, monkeypatch, capsys):
    folder = with_nulls[0]
    monkeypatch.setattr(reporting, "write_report", short_page)
    monkeypatch.setattr(sys, "argv", ["crosstime", "null", str(folder), "--kind", "permuted-tokens"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "Claims that are false under permuted-tokens" in printed
    assert "nulls.csv" in printed

    monkeypatch.setattr(sys, "argv", ["crosstime", "null", str(folder), "--kind", "permuted-token"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith(
        "crosstime: --kind: there is no null model 'permuted-token': did you mean 'permuted-tokens'"
    )
    assert len(message.strip().splitlines()) == 1


def test_what_cannot_have_null_models_is_refused(finished, tmp_path):
    with pytest.raises(RecipeError, match="there is no null model 'same-chekpoint': did you mean 'same-checkpoint'"):
        ct.null_models(finished, ["same-chekpoint"])
    with pytest.raises(RecipeError, match=r"null\.checkpoint: 'step7' is not compared"):
        ct.null_models(finished, checkpoint="step7")
    with pytest.raises(RunError, match="name at least one null model"):
        ct.null_models(finished, [])
    with pytest.raises(CrosstimeError, match=r"manifest\.json"):
        ct.null_models(tmp_path)

    # A run that was stopped before it was trained
    manifest = json.loads((finished / "manifest.json").read_text())
    del manifest["stages"]["train"]
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="stopped is not finished, its stage"):
        ct.null_models(tmp_path / "stopped")
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == ["manifest.json"]


def test_a_recipe_refuses_null_models_that_it_cannot_have(tmp_path):
    def table(**null: object) -> Recipe:
        text = recipe({"compare": {"revisions": ["step0"]}} if null.pop("single", False) else None)
        path = tmp_path / "small.toml"
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in null.items())
        path.write_text(f"{text}\n[null]\n{lines}\n")
        return Recipe.load(path)

    assert table(kinds=["random-weights"], seeds=2).null.seeds == 2
    for match, null in (
        ("null model 'random-weights' is there twice", {"kinds": ["random-weights"] * 2}),
        ("seeds must be at least 1, not 0", {"kinds": [], "seeds": 0}),
        ("level must lie between 0 and 1, not 95", {"level": 95.0}),
        ("at least two compared checkpoints, and this recipe has one", {"kinds": list(NULLS), "single": True}),
        (r"\[null\] has no key 'kind'", {"kind": "same-checkpoint"}),
    ):
        with pytest.raises(RecipeError, match=match):
            table(**null)
