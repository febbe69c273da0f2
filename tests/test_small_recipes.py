"""The papers' recipes, made small by the overrides that the guide shows, go from checkpoints to a report."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest

import crosstime as ct
from crosstime.runs.folder import RunFolder
from crosstime.runs.recipe.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.papers.evolution_of_concepts import claims  # noqa: E402

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
@pytest.mark.long
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


@pytest.mark.slow
@pytest.mark.long
def test_evolution_of_concepts_runs_in_full_on_a_tiny_suite(tmp_path: Path):
    """At least 16 checkpoints trained in the run, codes of each checkpoint, and what the guide reads off the tables."""
    fewer = ["crosscoder.steps=40", "crosscoder.buffer_tokens=4096", "corpus.sentences=12000", "suite.tiny.steps=32"]
    steps = [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32]
    revisions = [f"step{step}" for step in steps]
    fewer += [f"suite.tiny.checkpoints={steps}", f"compare.revisions={revisions}".replace("'", '"')]
    fewer += ["effects.resamples=50", "evolve.resamples=20", "dip.draws=2", "tasks.0.limit=12", "tasks.1.limit=12"]
    recipe = Recipe.named("eoc-tiny", fewer)
    assert len(Recipe.named("eoc-tiny").compare.revisions) >= 16
    result = ct.run(recipe, tmp_path)

    assert result.crosscoder.activation.gate_per_checkpoint
    assert result.evaluation.l0.nunique() > 1
    assert list(pd.read_csv(result.folder / "ngrams.csv").revision) == revisions
    charts = {path.stem for path in (result.folder / "charts").iterdir()}
    assert {"ngrams", "onsets", "decoder-steps", "rotation", "ablation"} <= charts
    page = (result.folder / "report.html").read_text(encoding="utf-8")
    assert "a gate per checkpoint" in page
    assert len(claims(RunFolder(result.folder))) == 6
