"""Dips of a run: the table of the recipe, and the stage that explains them."""

from __future__ import annotations

import pytest

import crosstime as ct
from crosstime.effects.dip import COLUMNS, HARMFUL
from crosstime.effects.explain_dip import DipTest
from crosstime.errors import CorpusError, RecipeError
from crosstime.machine.storage import read_json, read_table
from crosstime.runs.folder import TEXT_COLUMNS
from crosstime.runs.recipe.evolution import DipRecipe, EvolveRecipe
from crosstime.runs.recipe.recipe import Recipe


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
            "d_model": 16,
            "n_layers": 2,
            "n_heads": 2,
            "vocab_size": 512,
            "sequence_length": 16,
            "batch_tokens": 256,
            "steps": 40,
            "warmup": 4,
            "lr": 1e-2,
            "checkpoints": [0, 20, 40],
        },
    },
    "compare": {"revisions": ["step0", "step20", "step40"], "site": "resid.0"},
    "corpus": {"source": "agreement", "sentences": 600, "sequence_length": 12},
    "crosscoder": {"n_features": 32, "steps": 40, "batch_size": 64, "lr": 1e-2, "l1": 0.2},
    "tasks": [{"name": "agreement/simple", "limit": 8}, {"name": "agreement/attractor", "limit": 12}],
    "effects": {"top": 2, "resamples": 50},
    "evolve": {"text": False, "resamples": 20},
    "dip": {"task": "agreement/attractor", "at": "step20", "other": "step40", "top": 32, "draws": 5},
}


@pytest.mark.long
def test_a_run_explains_the_dip_that_its_recipe_names_once(tmp_path):
    result = ct.run(Recipe.of(RECIPE), tmp_path)
    (finding,) = read_json(result.folder / "dips.json")
    expected = {"task": "agreement/attractor", "at": "step20", "other": "step40", "given_up": True}
    assert {name: finding[name] for name in expected} == expected
    table = read_table(result.folder / "dips.csv", dtypes=TEXT_COLUMNS)
    assert list(table) == ["dip", "at", "other", *COLUMNS]

    # The same dip in Python
    task = ct.tasks.load("agreement/attractor").tokenize(result.suite.tokenizer, limit=12)
    attribution = ct.attribute(result.suite, result.crosscoder, task)
    dip = ct.explain_dip(
        result.suite, result.crosscoder, attribution, "step20", "step40", test=DipTest(top=32, draws=5)
    )
    assert finding["sentence"] == dip.sentence()
    assert finding["harmful"] == list(dip.harmful)
    assert finding["sentence"] in result.summary
    if dip.harmful:
        row = table[(table.task == "agreement/attractor") & (table.group == HARMFUL) & (table.revision == "step20")]
        assert row.logit_difference_change.item() == pytest.approx(dip.row(HARMFUL).logit_difference_change, abs=1e-4)
        assert set(table.task) == {"agreement/attractor", "agreement/simple"}

    # A second run uses the parts of the first, unless the dip's table has changed
    messages: list[str] = []
    ct.run(Recipe.of(RECIPE), tmp_path, announce=messages.append)
    assert "kept dips explained" in messages
    changed = Recipe.of(RECIPE | {"dip": RECIPE["dip"] | {"draws": 6}})
    messages.clear()
    ct.run(changed, tmp_path, announce=messages.append)
    assert [line for line in messages if line.startswith("made")] == ["made dips explained", "made the report"]
