"""A run whose recipe names several seeds: one pass of activations, and what the others replicate."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from small_run import contents, finished_run, home_of, recipe

import crosstime as ct
from crosstime.errors import CrosstimeError
from crosstime.evolution.replicated_claims import replicated_claims
from crosstime.report.replicates import replicates
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.manifest import read_manifest
from crosstime.runs.plan.machine import Machine
from crosstime.runs.plan.plan import plan
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.seed_inputs import SeedInputs
from crosstime.runs.status import status

pytestmark = pytest.mark.slow
SEEDS = [5, 6, 7]
NODE = Machine("cuda", "one GPU", 5e13, 3e12, 2 * 10**11, 8 * 10**10, 10**13)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    home = home_of(tmp_path_factory.mktemp("seeds"), recipe({"crosscoder": {"seeds": SEEDS}, "effects": {"top": 3}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return ct.run(home / "small.toml", home / "runs").folder


def test_the_first_seed_is_the_run_and_the_others_are_those_of_runs_of_their_own(finished, tmp_path, monkeypatch):
    """Every table of the run is that of the run with the first seed alone, and so is each other seed's crosscoder."""
    for seed in SEEDS:
        home = home_of(tmp_path / str(seed), recipe({"crosscoder": {"seed": seed}, "effects": {"top": 3}}))
        monkeypatch.chdir(home)
        alone = finished_run(home)
        own = ct.CrossCoder.load(alone / "crosscoder.safetensors")
        path = "crosscoder.safetensors" if seed == SEEDS[0] else f"seeds/{seed}.safetensors"
        together = ct.CrossCoder.load(finished / path)
        assert torch.equal(own.W_dec, together.W_dec)
        assert own.origin == together.origin
        if seed == SEEDS[0]:
            theirs, ours = contents(alone), contents(finished)
            assert {name: ours[name] for name in theirs if name != "summary.csv"} == {
                name: value for name, value in theirs.items() if name != "summary.csv"
            }
        else:
            effects = (finished / "seeds" / str(seed) / "effects.csv").read_bytes()
            assert effects == (alone / "effects.csv").read_bytes()


def test_the_tables_are_those_of_the_functions(finished):
    folders = [finished, *(finished / "seeds" / str(seed) for seed in SEEDS[1:])]
    crosscoders = [ct.CrossCoder.load(folder / "crosscoder.safetensors") for folder in folders]
    effects = [pd.read_csv(folder / "effects.csv") for folder in folders]
    lives = [pd.read_csv(folder / "evolution/life_cycles.csv") for folder in folders]
    table = pd.read_csv(finished / "replication.csv")
    pd.testing.assert_frame_equal(table, replicated_claims(crosscoders, effects, lives), check_dtype=False)
    pairs = pd.read_csv(finished / "seeds.csv")
    assert pairs[["first", "second"]].values.tolist() == [[5, 6], [5, 7], [6, 7]]
    assert pairs.mcc.tolist() == pytest.approx(ct.pairwise_mcc(crosscoders).mcc.tolist())


def test_findings_and_report_say_what_replicates(finished):
    findings = "\n".join(pd.read_csv(finished / "summary.csv").text)
    assert "Crosscoders of seeds 5, 6 and 7 have a PW-MCC of" in findings
    table = pd.read_csv(finished / "replication.csv")
    n, n_all = int(replicates(table).sum()), len(table)
    assert f"{n} of {n_all} selected features" in findings
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "seed 5 (other seeds: 6, 7)" in page
    expected = f"show the {n} of {n_all} selected features" if n else "No selected feature is in more than half"
    assert expected in page
    assert "in most seeds" in page
    assert (finished / "tables" / "replication.tex").is_file()


def test_a_finished_run_with_seeds_is_kept_and_its_plan_counts_them(finished, monkeypatch):
    home, before = finished.parents[1], contents(finished)
    monkeypatch.chdir(home)
    lines: list[str] = []
    ct.run(home / "small.toml", home / "runs", announce=lines.append)
    assert all(line.startswith("kept") for line in lines)
    assert status(finished).finished
    stages = read_manifest(finished)["stages"]
    assert {"seeds/6.safetensors", "seeds/7.safetensors", "seeds/6.csv"} <= set(stages["train"]["files"])
    assert contents(finished) == before
    costs = {cost.stage: cost for cost in plan(Recipe.load(home / "small.toml"), NODE).costs}
    alone = {cost.stage: cost for cost in plan(Recipe.load(home / "small.toml", ["crosscoder.seeds=[]"]), NODE).costs}
    assert "3 seeds" in costs["train"].what
    assert "replicate" not in alone
    assert 1 < costs["train"].work.flops / alone["train"].work.flops < 3


@pytest.mark.parametrize(
    ("crosscoder", "sentence"),
    [
        ({"seeds": [1, 1]}, "seeds: 1 is there twice"),
        ({"seeds": [1, -2]}, "seeds must be at least 0, not -2"),
        ({"seeds": [4]}, "for one, write seed = 4"),
        ({"seeds": [1, 2], "source": "there.safetensors"}, "source 'there.safetensors' is a crosscoder that exists"),
        ({"seeds": ["a"]}, "seeds"),
    ],
)
def test_seeds_that_cannot_be_are_refused_by_their_key(tmp_path, crosscoder, sentence):
    path = home_of(tmp_path, recipe({"crosscoder": crosscoder})) / "small.toml"
    with pytest.raises(CrosstimeError, match=sentence) as error:
        Recipe.load(path)
    assert "crosscoder" in str(error.value)


def test_other_seeds_of_the_demo_have_no_null_models_and_no_baselines_of_their_own(tmp_path):
    recipe = Recipe.named("demo", ["crosscoder.seeds=[124, 153]"])
    assert recipe.null.kinds
    assert recipe.baselines.names
    inputs = SeedInputs(Inputs(recipe, RunFolder(tmp_path)), 153, RunFolder(tmp_path))
    assert inputs.recipe.crosscoder.source == str(tmp_path / "seeds/153.safetensors")
    assert not inputs.recipe.null.kinds
    assert not inputs.recipe.baselines.names
