"""The papers' recipes, made small by the overrides that the guide shows, go from checkpoints to a report."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

import crosstime as ct
from crosstime.runs.recipe.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
GUIDE = (ROOT / "docs" / "guides" / "ctt.md").read_text(encoding="utf-8")
COMMANDS = {
    words[2]: words[3:]
    for words in (
        shlex.split(block.replace("\\\n", " ").replace("SUITES", f"{SHARED}/suites").replace("DATA", f"{SHARED}/data"))
        for block in re.findall(r"^```\n(crosstime run [^`]*SUITES[^`]*)^```", GUIDE, re.MULTILINE)
    )
}
EVEN_SMALLER = ("crosscoder.steps=60", "crosscoder.buffer_tokens=8192", "effects.resamples=100", "effects.top=2",
                "evolve.sequences=8", "dip.draws=2")  # fmt: skip


def overrides(name: str) -> list[str]:
    words = COMMANDS[name]
    assert words[::2] == ["--set"] * (len(words) // 2)
    return words[1::2]


def test_the_guide_has_a_small_form_of_each_models_recipe():
    assert set(COMMANDS) == {"ctt-pythia-1b", "ctt-olmo-1b-0724", "ctt-bloom-1b1"}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_small_form_leaves_is_the_papers(name: str):
    small, paper = Recipe.named(name, overrides(name)), Recipe.named(name)
    assert [task.name for task in small.tasks] == [task.name for task in paper.tasks][: len(small.tasks)]
    assert small.effects == paper.effects
    assert small.crosscoder.kind == paper.crosscoder.kind
    assert len(small.compare.revisions) == len(paper.compare.revisions)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared suites and data are not beside the checkout")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_small_form_runs_in_full(name: str, tmp_path: Path):
    few = [f"tasks.{index}.limit=12" for index in range(len(Recipe.named(name, overrides(name)).tasks))]
    recipe = Recipe.named(name, [*overrides(name), *EVEN_SMALLER, *few])
    result = ct.run(recipe, tmp_path)
    names, revisions = [task.name for task in recipe.tasks], recipe.compare.revisions
    assert set(result.effects.task) == set(result.ablation.task) == set(names)
    assert set(result.effects.revision) == set(result.evaluation.revision) == set(revisions)
    assert set(result.accuracy.revision) == set(recipe.suite.revisions)
    assert result.effects.ie.notna().all()
    completeness = pd.read_csv(result.folder / "completeness.csv")
    assert len(completeness) == len(names) * len(revisions)
    # With so few prompts and steps a path can be steep; the whole of it must not be missed.
    assert (completeness.completeness_error < 0.2).all()
    assert result.report.stat().st_size > 100_000
