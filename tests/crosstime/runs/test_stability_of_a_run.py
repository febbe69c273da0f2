"""The stage `stability` of a run: its table is that of the function, its sentence a finding, its cost in the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from small_run import finished_run, home_of, recipe

import crosstime as ct
from crosstime.errors import RecipeError
from crosstime.runs.check import refuse_stability
from crosstime.runs.plan.machine import Machine
from crosstime.runs.plan.plan import plan
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stability_sentences import stability_sentences
from interventions import Bootstrap, Remote

TABLE = """
[stability]
comparisons = ["prompts", "templates", "metric", "dtype"]
k = 2
prompts = 5
resamples = 20
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    tasks = [{"name": "agreement/simple", "limit": 8}]
    return home_of(tmp_path_factory.mktemp("stability"), recipe(tasks=tasks) + TABLE)


@pytest.mark.slow
def test_the_table_of_a_run_is_that_of_the_function(home: Path):
    folder = finished_run(home)
    table = pd.read_csv(folder / "stability.csv")
    settings = Recipe.load(home / "small.toml")
    suite = ct.Suite.open(folder / "suite").select(["step0", "step12"])
    expected = ct.effect_stability(
        suite,
        ct.CrossCoder.load(folder / "crosscoder.safetensors"),
        ct.tasks.load("agreement/simple").tokenize(suite.tokenizer, limit=8, seed=3),
        settings.effects,
        stability=ct.Stability(["prompts", "templates", "metric", "dtype"], k=2, prompts=5),
        bootstrap=Bootstrap(20, 3),
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, atol=1e-6)
    assert {"bfloat16", "cross_entropy", "halves"} <= set(table.variant)
    findings = pd.read_csv(folder / "summary.csv").text.tolist()
    assert stability_sentences(table)
    assert set(stability_sentences(table)) <= set(findings)


def test_the_plan_has_the_cost_and_a_recipe_without_comparisons_has_no_stage(home: Path):
    machine = Machine("cpu", "2 cores", 1e11, 1e10, 8 * 10**9, 8 * 10**9, 5 * 10**10)
    settings = Recipe.load(home / "small.toml")
    costs = {}
    for names in (["prompts"], ["prompts", "metric"], ["prompts", "metric", "dtype"], []):
        changed = replace(settings, stability=replace(settings.stability, comparisons=names))
        costs[len(names)] = {cost.stage: cost for cost in plan(changed, machine).costs}.get("stability")
    free, with_metric, with_dtype = costs[1], costs[2], costs[3]
    assert costs[0] is None
    assert free is not None
    assert with_metric is not None
    assert with_dtype is not None
    assert free.what == "1 comparisons, 0 variants"
    assert with_dtype.what == "3 comparisons, 4 variants"
    # Three variants of the metric, and one of the dtype
    assert with_dtype.flops - free.flops == pytest.approx(4 / 3 * (with_metric.flops - free.flops))
    assert with_metric.flops > free.flops > 0


def test_another_dtype_is_refused_on_a_server_before_anything_is_computed():
    compute = ct.Compute(remote=Remote("http://127.0.0.1:1"))
    with pytest.raises(RecipeError, match=r"^stability\.comparisons: a server has one dtype"):
        refuse_stability(["prompts", "dtype"], compute)
    refuse_stability(["prompts", "metric", "estimator"], compute)
    refuse_stability(["prompts", "dtype"], ct.Compute())
