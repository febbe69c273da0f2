"""Where tasks dip, on hand-written accuracies; the recipe's table; and the stage that explains them."""

from __future__ import annotations

import pandas as pd
import pytest

import crosstime as ct
from crosstime.effects.explain_dip import COLUMNS, HARMFUL
from crosstime.errors import CorpusError, CrosstimeError, RecipeError
from crosstime.machine.storage import read_json, read_table
from crosstime.runs.parts import TEXT_COLUMNS
from crosstime.runs.recipe.evolution import DipRecipe, EvolveRecipe
from crosstime.runs.recipe.recipe import Recipe
from crosstime.suites.find_dips import DipPlace, find_dips

STEPS = ("a", "b", "c", "d")


def accuracy(margin: float = 0.05, **tasks: list[float]) -> pd.DataFrame:
    """Accuracies at a, b, c, d, checkpoint by checkpoint, with intervals of one width."""
    rows = [
        (revision, task, values[place], values[place] - margin, values[place] + margin)
        for place, revision in enumerate(STEPS)
        for task, values in tasks.items()
    ]
    return pd.DataFrame(rows, columns=["revision", "task", "accuracy", "low", "high"])


def test_a_dip_lies_below_what_is_before_and_after_it():
    table = accuracy(up=[0.5, 0.6, 0.7, 0.9], dips=[0.5, 0.1, 0.8, 0.9], back=[0.5, 0.3, 0.1, 0.7])
    assert find_dips(table, STEPS) == [DipPlace("dips", "b", "d"), DipPlace("back", "c", "d")]


def test_what_lies_before_need_not_be_compared_but_what_comes_after_must():
    table = accuracy(dips=[0.5, 0.1, 0.8, 0.9])
    assert find_dips(table, ["b", "c"]) == [DipPlace("dips", "b", "c")]
    assert find_dips(table, ["b"]) == []


def test_a_fall_without_recovery_is_compared_with_the_best_before_it():
    table = accuracy(falls=[0.5, 0.6, 0.3, 0.2])
    assert find_dips(table, STEPS) == [DipPlace("falls", "d", "b")]
    assert find_dips(table, ["a", "c"]) == [DipPlace("falls", "c", "a")]


def test_of_two_dips_the_deeper_one_is_taken_and_a_dip_goes_before_a_fall():
    assert find_dips(accuracy(x=[0.9, 0.2, 0.6, 0.05]), STEPS) == [DipPlace("x", "b", "c")]
    table = accuracy(x=[0.9, 0.4, 0.1, 0.8])
    assert find_dips(table, STEPS) == [DipPlace("x", "c", "d")]


def test_differences_within_the_intervals_are_no_dips():
    assert find_dips(accuracy(x=[0.5, 0.42, 0.5, 0.5]), STEPS) == []
    assert find_dips(accuracy(0.03, x=[0.5, 0.42, 0.5, 0.5]), STEPS) == [DipPlace("x", "b", "c")]


def test_a_compared_checkpoint_without_accuracy_is_refused():
    with pytest.raises(CrosstimeError, match="accuracy on x was not measured at e"):
        find_dips(accuracy(x=[0.5] * 4), ["a", "e"])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"task": "x"}, "all three or none; got task"),
        ({"task": "x", "at": "a", "other": "a"}, "two checkpoints, not 'a' twice"),
        ({"draws": 0}, "draws must be at least 1, not 0"),
        ({"prompts": -1}, "prompts must be at least 1, not -1"),
    ],
)
def test_a_recipe_with_half_a_dip_is_refused(settings, sentence):
    with pytest.raises(RecipeError, match=sentence):
        DipRecipe(**settings)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("task", "agreement/atractor", "dip.task: there is no task 'agreement/atractor': did you mean"),
        ("at", "step63", "dip.at: 'step63' is not compared: did you mean 'step64'"),
        ("other", "main", "dip.other: 'main' is not compared"),
    ],
)
def test_a_recipe_with_a_dip_of_something_else_is_refused(key, value, sentence):
    dip = {"task": "agreement/attractor", "at": "step64", "other": "step256"} | {key: value}
    with pytest.raises(RecipeError, match=sentence):
        Recipe.named("demo", [f"dip.{name}={word}" for name, word in dip.items()])


def test_a_recipe_names_texts_of_languages_strictly(tmp_path):
    (tmp_path / "en.txt").write_text("text")
    path = tmp_path / "mine.toml"
    path.write_text('extends = "demo"\nname = "mine"\n[evolve.languages]\nen = "en.txt"\nfr = "hf:org/fr"\n')
    assert Recipe.load(path).evolve.languages == {"en": str(tmp_path / "en.txt"), "fr": "hf:org/fr"}
    with pytest.raises(RecipeError, match=r"evolve\.languages\.en must be a text, not 3"):
        Recipe.load(path, ["evolve.languages.en=3"])
    with pytest.raises(RecipeError, match=r"evolve\.languages must be a table, not 'en'"):
        Recipe.load(path, ["evolve.languages=en"])
    with pytest.raises(RecipeError, match="at least two, not en alone"):
        EvolveRecipe(languages={"en": "en.txt"})
    missing = Recipe.load(path, [f"evolve.languages.fr={tmp_path / 'fr.txt'}"])
    with pytest.raises(CorpusError, match=r"fr\.txt"):
        ct.run(missing, tmp_path / "runs")


RECIPE = {
    "name": "mine",
    "suite": {
        "source": "tiny",
        "tiny": {
            "d_model": 16, "n_layers": 2, "n_heads": 2, "vocab_size": 512, "sequence_length": 16, "batch_tokens": 256,
            "steps": 40, "warmup": 4, "lr": 1e-2, "checkpoints": [0, 20, 40],
        },
    },
    "compare": {"revisions": ["step0", "step20", "step40"], "site": "resid.0"},
    "corpus": {"source": "agreement", "sentences": 600, "sequence_length": 12},
    "crosscoder": {"n_features": 32, "steps": 40, "batch_size": 64, "lr": 1e-2, "l1": 0.2},
    "tasks": [{"name": "agreement/simple", "limit": 8}, {"name": "agreement/attractor", "limit": 12}],
    "effects": {"top": 2, "resamples": 50},
    "evolve": {"text": False, "resamples": 20},
    "dip": {"task": "agreement/attractor", "at": "step20", "other": "step40", "top": 32, "draws": 5},
}  # fmt: skip


@pytest.mark.slow
def test_a_run_explains_the_dip_that_its_recipe_names_once(tmp_path):
    result = ct.run(Recipe.of(RECIPE), tmp_path)
    (facts,) = read_json(result.folder / "dips.json")
    assert (facts["task"], facts["at"], facts["other"], facts["given_up"]) == (
        "agreement/attractor", "step20", "step40", True
    )  # fmt: skip
    table = read_table(result.folder / "dips.csv", dtypes=TEXT_COLUMNS)
    assert list(table) == ["dip", "at", "other", *COLUMNS]
    attribution = ct.attribute(
        result.suite, result.crosscoder,
        ct.tasks.load("agreement/attractor").tokenize(result.suite.tokenizer, limit=12),
    )  # fmt: skip
    dip = ct.explain_dip(
        result.suite, result.crosscoder, attribution.decomposed, "step20", "step40", attribution=attribution, top=32,
        draws=5,
    )  # fmt: skip
    assert facts["sentence"] == dip.sentence()
    assert facts["harmful"] == list(dip.harmful)
    assert facts["sentence"] in result.summary
    if dip.harmful:
        own = table[(table.task == "agreement/attractor") & (table.group == HARMFUL) & (table.revision == "step20")]
        assert own.logit_difference_change.item() == pytest.approx(dip.row(HARMFUL).logit_difference_change, abs=1e-4)
        assert set(table.task) == {"agreement/attractor", "agreement/simple"}
    said: list[str] = []
    ct.run(Recipe.of(RECIPE), tmp_path, announce=said.append)
    assert "kept dips explained" in said
    again = Recipe.of(RECIPE | {"dip": RECIPE["dip"] | {"draws": 6}})
    said.clear()
    ct.run(again, tmp_path, announce=said.append)
    assert [line for line in said if line.startswith("made")] == ["made dips explained", "made the report"]
