"""Keys of stages are what finished runs are known by: those of a recipe may not change with the code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.registry import stages_of
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.suite import Suite

KEYS = {
    "demo": {
        "suite": "3ab8b25914dd829e", "select": "65bca1d4ac177cb8", "train": "f21c37242acfadf2",
        "evaluate": "3344b8f682c328e9", "attribute": "ed77d85150d3bed4", "ablate": "b0a224b79cdcf16f",
        "evolve": "4ab6f8e27fd33f0f", "explain": "5f0414a62a97522c",
    },
}  # fmt: skip
"""Keys that version 0.1.0 gave; left out are the report's, which depends on the version, and that of later stages.

Those from `attribute` on are newer: features are selected on one half of the prompts and tested on the other, which
changes all numbers about them, so that these stages are repeated in a run of an earlier version. That of `evolve` has
changed again with the columns of its tables.
"""


def keys(recipe: Recipe, folder: Path) -> dict[str, str]:
    """The key of each stage, as a run computes them one after another; the suite is known by its names only."""
    inputs, ledger = Inputs(recipe, RunFolder(folder)), Ledger(folder)
    checkpoints = [Checkpoint(revision, None, None, "tiny", None) for revision in recipe.compare.revisions or ()]
    inputs.__dict__["suite"] = Suite("tiny", tuple(checkpoints))
    for stage in stages_of(recipe):
        key = ledger._key(stage.name, stage.dependencies(inputs, ledger))
        ledger.manifest["stages"][stage.name] = {"key": key}
    return {name: entry["key"] for name, entry in ledger.manifest["stages"].items()}


@pytest.mark.parametrize("name", KEYS)
def test_the_keys_of_a_shipped_recipe_are_those_of_earlier_versions(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Suite, "fingerprint", property(lambda suite: "suite of " + " ".join(suite.revisions)))
    # Version 0.1.0 trained one seed
    actual = keys(Recipe.named(name, ["crosscoder.seeds=[]"]), tmp_path)
    assert {
        stage: key for stage, key in actual.items() if stage not in ("stability", "baselines", "null", "report")
    } == KEYS[name]


def test_the_record_of_a_recipe_has_the_keys_of_its_file(tmp_path: Path):
    plain = json.loads(json.dumps(Recipe.named("demo").to_dict()))
    assert list(plain["effects"]) == [
        "method", "baseline", "metric", "quadrature", "steps", "tolerance", "top", "resamples", "halves"
    ]  # fmt: skip
    assert set(plain["dip"]) == {"task", "at", "other", "top", "prompts", "draws"}


def test_a_text_in_the_home_folder_is_hashed_as_it_is_read(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    texts = {
        "corpus.source": "~/a.txt", "corpus.held_out": "~/b.txt",
        "evolve.languages.en": "~/c.txt", "evolve.languages.fr": "~/d.txt",
    }  # fmt: skip
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text("one")

    def identities() -> list[object]:
        recipe = Recipe.named("demo", [f"{key}={path}" for key, path in texts.items()])
        inputs = Inputs(recipe, RunFolder(tmp_path / "run"))
        (evolve,) = (stage for stage in stages_of(recipe) if stage.name == "evolve")
        ledger = Ledger(tmp_path / "run")
        ledger.manifest["stages"]["attribute"] = {"key": "of the effects"}
        return [inputs.corpus_identity(), evolve.dependencies(inputs, ledger)]

    before = identities()
    for index, name in enumerate("abcd"):
        (tmp_path / f"{name}.txt").write_text("other")
        after = identities()
        assert (before[0] != after[0], before[1] != after[1]) == (index < 2, index >= 2)
        before = after


def test_paths_of_a_recipe_expand_the_home_folder(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    keys_of_paths = {
        "suite.source": "~/suite", "suite.tokenizer": "~/tokenizer", "corpus.source": "~/store",
        "corpus.held_out": "~/text.txt", "evolve.languages.en": "~/en.txt", "evolve.languages.fr": "~/fr.txt",
        "tasks.0.path": "~/tasks",
    }  # fmt: skip
    recipe = Recipe.named("demo", [f"{key}={path}" for key, path in keys_of_paths.items()])
    paths = (
        recipe.suite.source, recipe.suite.tokenizer, recipe.corpus.source, recipe.corpus.held_out,
        recipe.evolve.languages["en"], recipe.evolve.languages["fr"], recipe.tasks[0].path,
    )  # fmt: skip
    assert paths == tuple(path.replace("~", str(tmp_path)) for path in keys_of_paths.values())
