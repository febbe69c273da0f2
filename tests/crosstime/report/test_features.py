"""The data of the feature browser, and their size."""

from __future__ import annotations

import gzip
import math

import pandas as pd
import pytest
import report_sample as sample

from crosstime.errors import ReportError
from crosstime.report.charts.vega import script_json
from crosstime.report.check_table import check_facts
from crosstime.report.page.browser_data import browser_data
from crosstime.report.page.context import Context
from crosstime.report.page.features import DRAWN, selected_features, strongest_note, strongest_rows
from crosstime.report.page.visible_parts import visible_parts


@pytest.fixture(scope="module")
def data() -> dict:
    return browser_data(sample.sample())


def entry(data: dict, feature: int) -> dict:
    (entry,) = (entry for entry in data["features"] if entry["id"] == feature)
    return entry


def test_features_come_by_their_largest_effect(data: dict) -> None:
    truth = sample.effects()
    truth = truth[truth["feature"] != -1].assign(size=lambda table: table["ie"].abs())
    sizes = truth.groupby("feature")["size"].max()
    listed = [sizes[feature["id"]] for feature in data["features"]]
    assert listed == sorted(listed, reverse=True)
    assert {feature["id"] for feature in data["features"]} == set(sample.FEATURES)


def test_every_number_of_the_tables_is_on_its_feature(data: dict) -> None:
    effects = sample.effects().set_index(["task", "feature", "revision"])
    temporal = sample.temporal().set_index(["task", "feature", "revision"])
    ablation = sample.ablation().set_index(["task", "features", "revision"])["accuracy_change"]
    classes = sample.classes().set_index(["task", "feature"])

    def same(value: float | None, expected: float) -> bool:
        return value is None if math.isnan(expected) else value == pytest.approx(expected, rel=1e-3)

    for feature in data["features"]:
        for task, values in feature["tasks"].items():
            assert (values["by_ie"], values["by_dec"]) == tuple(classes.loc[(task, feature["id"])])
            for place, revision in enumerate(sample.COMPARED):
                key = (task, feature["id"], revision)
                for name, table, columns in (
                    ("ie", effects, ["ie", "low", "high"]),
                    ("relie", temporal, ["relie", "relie_low", "relie_high"]),
                ):
                    assert all(map(same, values[name][place], table.loc[key, columns]))
                assert same(feature["norms"][place], temporal.loc[key, "decoder_norm"])
                assert same(feature["reldec"][place], temporal.loc[key, "reldec"])
                assert same(values["change"][place], ablation.loc[(task, str(feature["id"]), revision)])


def test_tokens_are_written_once_and_read_back_as_they_are(data: dict) -> None:
    assert len({tuple(parts) for parts in data["strings"]}) == len(data["strings"])
    for context in entry(data, 7)["contexts"]:
        tokens = ["".join(data["strings"][place]) for place in context["tokens"]]
        assert tuple(tokens[:3]) in {tuple("".join(part) for part in prompt[:3]) for prompt in visible_prompts()}
        assert len(context["activations"]) == len(tokens)


def visible_prompts() -> list[list[list[str]]]:
    return [[visible_parts(token) for token in prompt] for prompt in sample.PROMPTS]


def test_prompts_come_before_corpus_text_and_strong_before_weak(data: dict) -> None:
    contexts = entry(data, 123)["contexts"]
    sources = [context["source"] for context in contexts]
    assert sources == ["task"] * 7 + ["corpus"]
    peaks = [max(context["activations"]) for context in contexts if context["source"] == "task"]
    assert peaks == sorted(peaks, reverse=True)
    assert "right" not in contexts[-1]
    assert set(contexts[0]["effects"]) <= set(sample.COMPARED), "revisions whose effects are all zero are left out"
    assert contexts[0]["effects"]


def test_logit_effects_keep_their_order_and_their_checkpoint(data: dict) -> None:
    first, *_ = entry(data, 7)["logits"]
    promoted, suppressed = first
    words = ["".join(data["strings"][place]) for place in promoted[::2]]
    assert words == [" are", sample.NASTY, "\u0627\u0644"]
    assert promoted[1::2] == [3, 2, 1]
    assert suppressed[1::2] == [-3, -2, -1]
    assert "logits" not in entry(data, 16383)


def test_facts_of_any_name_reach_the_card(data: dict) -> None:
    assert data["facts"] == ["onset", "persistence", "life cycle by decoder norm"]
    assert entry(data, 123)["facts"] == ["step256", 0.05, "discontinued"]


def test_annotations_are_kept_under_a_name_that_only_a_report_of_other_features_changes(data: dict) -> None:
    assert browser_data(sample.sample(summary="another"))["id"] == data["id"]
    fewer = sample.effects()
    fewer = fewer[fewer["feature"] != 7]
    others = {"temporal": sample.temporal().query("feature != 7"), "classes": sample.classes().query("feature != 7")}
    assert browser_data(sample.sample(effects=fewer, contexts={}, **others))["id"] != data["id"]


@pytest.mark.long
def test_a_thousand_features_are_small_and_charts_draw_the_strongest_only() -> None:
    report = sample.large(1000)
    assert len(selected_features(report.effects, report.temporal, contexts={})) == 1000
    packed = gzip.compress(script_json(browser_data(report)).encode(), compresslevel=6)
    assert len(packed) * 4 / 3 < 3_500_000
    strongest = strongest_rows(report.effects, report)
    assert strongest["feature"].nunique() == DRAWN + 1  # and the error term
    assert f"{DRAWN} with the largest |IE| of 1,000" in strongest_note(report)
    assert strongest_note(sample.sample()) == ""


def test_facts_are_refused_without_a_feature_or_with_one_twice() -> None:
    with pytest.raises(ReportError, match="lacks the column 'feature'; it has onset"):
        check_facts(pd.DataFrame({"onset": [1]}))
    with pytest.raises(ReportError, match="more than one row of feature 3"):
        check_facts(pd.DataFrame({"feature": [3, 4, 3]}))
    with pytest.raises(ReportError, match="must hold whole numbers"):
        check_facts(pd.DataFrame({"feature": ["x"]}))


def test_facts_may_be_flags_numbers_and_text_with_gaps() -> None:
    facts = check_facts(
        pd.DataFrame({"feature": [1, 2], "n": [1.5, math.inf], "flag": [True, False], "word": ["a", None]})
    )
    assert facts["n"].isna().tolist() == [False, True]
    assert facts["flag"].tolist() == ["yes", "no"]
    assert facts["word"].tolist() == ["a", ""]


def test_a_context_of_a_corpus_needs_no_answers() -> None:
    context = Context("stories", ("a",), (1.0,), source="corpus")
    report = sample.sample(contexts={7: [context]})
    assert entry(browser_data(report), 7)["contexts"][0]["source"] == "corpus"
