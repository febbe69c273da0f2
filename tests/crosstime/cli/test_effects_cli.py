"""``crosstime attribute`` and ``crosstime ablate``: the tables of the Python functions; and models side by side."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import crosstime as ct
from crosstime.cli.main import app
from crosstime.cli.options import named_places
from crosstime.errors import SuiteError
from interventions import Bootstrap

TASK = "agreement/simple"


@pytest.fixture(scope="module")
def arguments(learning_suite, learning_crosscoder, tmp_path_factory) -> list[str]:
    """Suite, crosscoder, task and its limit."""
    path = tmp_path_factory.mktemp("crosscoder") / "crosscoder.safetensors"
    learning_crosscoder.save(path)
    return [str(Path(next(iter(learning_suite)).source).parent), str(path.parent), TASK, "-n", "6"]


def run(*words: str) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(words))
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


def test_attribute_writes_the_table_of_the_function(arguments, learning_suite, learning_crosscoder, tmp_path: Path):
    output = run("attribute", *arguments, "--top", "2", "--out", str(tmp_path))
    task = ct.tasks.load(TASK, limit=6, seed=0)
    attribution = ct.attribute(learning_suite, learning_crosscoder, task)
    selection, held_out = attribution.halves(seed=0)
    expected = held_out.table(selection.top(2), bootstrap=Bootstrap())
    table = pd.read_csv(tmp_path / "effects.csv")
    assert table.feature.tolist() == expected.feature.tolist()
    for column in ("ie", "low", "high", "reldec"):
        assert table[column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-9, abs=1e-12)
    errors = pd.read_csv(tmp_path / "completeness.csv").set_index("revision").completeness_error
    assert errors.to_dict() == pytest.approx(attribution.completeness())
    assert f"f{expected.feature[0]}" in output


def test_attribute_takes_estimators_and_baselines(arguments, tmp_path: Path):
    run("attribute", *arguments, "--top", "2", "--out", str(tmp_path / "a"), "--estimator", "ctt-as-written")
    run("attribute", *arguments, "--top", "2", "--out", str(tmp_path / "b"), "--baseline", "mean")
    first, second = (pd.read_csv(tmp_path / name / "effects.csv") for name in ("a", "b"))
    assert not first.ie.equals(second.ie)


def test_ablate_writes_the_table_of_the_function(arguments, learning_suite, learning_crosscoder, tmp_path: Path):
    output = run("ablate", *arguments, "-f", "3,5", "-f", "both=3,5", "--out", str(tmp_path))
    task = ct.tasks.load(TASK, limit=6, seed=0)
    groups = {"3": [3], "5": [5], "both": [3, 5]}
    expected = ct.ablate(learning_suite, learning_crosscoder, task, groups, bootstrap=Bootstrap(2_000, 0))
    table = pd.read_csv(tmp_path / "ablation.csv", dtype={"features": str})
    assert table.features.tolist() == expected.features.tolist()
    for column in ("accuracy", "logit_difference_change", "low"):
        assert table[column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-9, abs=1e-12)
    assert "both" in output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["attribute", "{suite}", "./nowhere", TASK], "there is no crosscoder at ./nowhere"),
        (["attribute", "./nowhere", "{crosscoder}", TASK], "there is no folder ./nowhere"),
        (["attribute", "{suite}", "{crosscoder}", "agrement/simple"], "agreement"),
        (["attribute", "{suite}", "{crosscoder}", TASK, "--baseline", "nought"], "There is no baseline 'nought'"),
        (["ablate", "{suite}", "{crosscoder}", TASK, "-f", "x"], "--features takes numbers"),
        (["ablate", "{suite}", "{crosscoder}", TASK, "-f", "=3"], "--features takes numbers"),
        (["ablate", "{suite}", "{crosscoder}", TASK, "-f", "a=3", "-f", "a=4"], "names the group 'a' twice"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_written(words, sentence, arguments, tmp_path: Path):
    filled = [word.format(suite=arguments[0], crosscoder=arguments[1]) for word in words]
    result = CliRunner().invoke(app, [*filled, "--out", str(tmp_path / "out")])
    assert result.exit_code != 0
    assert sentence in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_models_side_by_side_are_named_in_place_of_a_suite(arguments, tmp_path: Path):
    folder = arguments[0]
    models = f"base={folder}/step0,chat={folder}/step40"
    output = run("accuracy", models, TASK, "-n", "6", "--out", str(tmp_path))
    assert "model" in output
    assert "checkpoint" not in output
    suite = ct.Suite.of({"base": f"{folder}/step0", "chat": f"{folder}/step40"})
    expected = ct.accuracy(suite, ct.tasks.load(TASK, limit=6, seed=0), bootstrap=Bootstrap(seed=0))
    table = pd.read_csv(tmp_path / "accuracy.csv")
    assert table.revision.tolist() == ["base", "chat"]
    assert "training tokens" not in (tmp_path / "accuracy.svg").read_text()
    assert table.accuracy.tolist() == expected.accuracy.tolist()


def test_places_are_read_by_name(tmp_path: Path):
    assert named_places("base=ORG/base, chat = ORG/chat@main") == {"base": "ORG/base", "chat": "ORG/chat@main"}
    assert named_places("ORG/base") is None
    (tmp_path / "a=b").mkdir()
    assert named_places(str(tmp_path / "a=b")) is None
    for text, sentence in (("a=b,c", "NAME=PLACE,NAME=PLACE"), ("=b", "NAME=PLACE"), ("a=b,a=c", "given twice")):
        with pytest.raises(SuiteError, match=sentence):
            named_places(text)


def test_features_can_be_selected_on_the_prompts_on_which_they_are_shown(
    arguments, learning_suite, learning_crosscoder, tmp_path: Path
):
    run("attribute", *arguments, "--top", "2", "--out", str(tmp_path), "--same-prompts")
    attribution = ct.attribute(learning_suite, learning_crosscoder, ct.tasks.load(TASK, limit=6, seed=0))
    table = pd.read_csv(tmp_path / "effects.csv")
    assert table.ie.to_numpy() == pytest.approx(attribution.table(attribution.top(2)).ie.to_numpy(), abs=1e-9)


@pytest.mark.parametrize("verb", ["attribute", "evolve"])
def test_three_pairs_are_too_few_for_halves(arguments, verb: str, tmp_path: Path):
    suite, crosscoder = arguments[0], str(Path(arguments[1]) / "crosscoder.safetensors")
    words = [verb, suite, crosscoder, TASK, "-n", "3", "--out", str(tmp_path / "out")]
    result = CliRunner(env={"COLUMNS": "400"}).invoke(app, words)
    output = str(result.exception) + result.output
    assert result.exit_code != 0
    assert "agreement/simple has 3 prompts" in output
    assert "--same-prompts" in output
    assert not (tmp_path / "out").exists()
