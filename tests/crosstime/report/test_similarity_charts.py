"""Charts of similarity, change and n-grams: what they draw, and what they reject."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chart_rows import rows

from crosstime.errors import ReportError
from crosstime.report.charts.ngrams import ngram_chart
from crosstime.report.charts.similarity import change_chart, similarity_chart
from crosstime.report.charts.vega import script_json, specification, to_svg

ORDER = ("step9", "step10", "main")
COSINE = np.array([[1.0, 0.71, -0.12], [0.71, 1.0, 0.53], [-0.12, 0.53, 1.0]])
SIMILARITY = pd.DataFrame(
    {"revision": a, "other": b, "cosine": COSINE[i, j], "pearson": COSINE[i, j] / 2, "cka": COSINE[i, j] ** 2}
    for (i, a), (j, b) in product(enumerate(ORDER), repeat=2)
)
CHANGES = pd.DataFrame(
    [("step9", "step10", 0.25), ("step9", "main", 1.38), ("step10", "main", 0.91)],
    columns=["revision", "other", "change"],
)
NGRAMS = pd.DataFrame(
    {
        "revision": ORDER,
        "step": [9, 10, 30],
        "tokens": [0, 1_000, 30_000],
        "loss": [6.1, 4.2, 2.3],
        "unigram_kl": [1.4, 0.3, 1.9],
        "bigram_kl": [2.6, 1.1, 0.4],
        "unigram_entropy": [4.5] * 3,
        "bigram_entropy": [2.7] * 3,
        "unigram_loss": [4.6] * 3,
        "bigram_loss": [2.9] * 3,
    }
).astype({"step": "Int64", "tokens": "Int64"})

CHARTS = {
    "cosine": lambda: similarity_chart(SIMILARITY),
    "pearson": lambda: similarity_chart(SIMILARITY, "pearson"),
    "cka": lambda: similarity_chart(SIMILARITY, "cka"),
    "change": lambda: change_chart(CHANGES, ["step9", "main"]),
    "ngrams": lambda: ngram_chart(NGRAMS),
}


def texts(chart: Any) -> list[str]:
    svg = to_svg(specification(chart))
    labels = [node.text or "" for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    # Vega writes a minus sign where Python writes a hyphen.
    return [text.replace("\N{MINUS SIGN}", "-") for text in labels]


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_draws_and_writes_no_missing_value(name: str):
    labels = texts(CHARTS[name]())
    assert labels
    assert not {text.lower() for text in labels} & {"nan", "null", "undefined", "none"}
    script_json(specification(CHARTS[name]()))  # raises on NaN


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_says_how_a_screen_may_resize_it(name: str):
    assert set(specification(CHARTS[name]())["usermeta"]) == {"panel", "margin", "fixed"}


@pytest.mark.parametrize(
    ("measure", "title"),
    [("cosine", "mean cosine"), ("pearson", "mean Pearson correlation"), ("cka", "linear CKA")],
)
def test_a_heat_map_writes_each_number_under_the_name_of_its_measure(measure: str, title: str):
    chart = similarity_chart(SIMILARITY, measure)
    assert rows(chart, "value")["value"].tolist() == pytest.approx(SIMILARITY[measure].tolist())
    labels = texts(chart)
    assert title in labels
    numbers = sorted(float(text) for text in labels if text.replace(".", "").lstrip("-").isdigit())
    assert numbers == pytest.approx(sorted(SIMILARITY[measure].round(2)), abs=0.011)
    assert not rows(chart, "framed")["framed"].any()


def test_checkpoints_stand_in_the_order_of_training_on_both_axes():
    encoding = specification(similarity_chart(SIMILARITY))["layer"][0]["encoding"]
    assert encoding["x"]["scale"]["domain"] == encoding["y"]["scale"]["domain"] == list(ORDER)
    assert texts(similarity_chart(SIMILARITY)).count("main") == 2


def test_changes_have_no_row_of_the_last_checkpoint_and_no_column_of_the_first():
    chart = change_chart(CHANGES, ["step9", "main"])
    encoding = specification(chart)["layer"][0]["encoding"]
    assert encoding["x"]["scale"]["domain"] == list(ORDER[1:])
    assert encoding["y"]["scale"]["domain"] == list(ORDER[:-1])
    assert [texts(chart).count(name) for name in ORDER] == [1, 2, 1]


def test_the_colours_reach_from_the_lowest_value_below_nought_to_one():
    scale = specification(similarity_chart(SIMILARITY))["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == [-0.12, 1.0]
    scale = specification(change_chart(CHANGES, ["step9", "main"]))["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == [0.0, 1.38]


@pytest.mark.parametrize(
    ("chosen", "framed"),
    [
        (["step9", "main"], [("step9", "main")]),
        (["step9", "step10", "main"], [("step9", "step10"), ("step10", "main")]),
    ],
)
def test_the_steps_between_chosen_checkpoints_are_framed(chosen: list[str], framed: list[tuple[str, str]]):
    chart = change_chart(CHANGES, chosen)
    data = rows(chart, "framed")
    pairs = data[data["framed"]]
    assert list(zip(pairs["revision"], pairs["other"], strict=True)) == framed
    assert f"change; framed: {' → '.join(chosen)}" in texts(chart)


def test_n_gram_lines_hold_every_checkpoint_and_rules_their_entropies():
    chart = ngram_chart(NGRAMS)
    lines = rows(chart, "tokens", "nats")
    for column, name in {"loss": "loss", "unigram_kl": "KL from unigrams", "bigram_kl": "KL from bigrams"}.items():
        part = lines[lines["line"] == name]
        assert part["tokens"].tolist() == [0, 1_000, 30_000]
        assert part["nats"].tolist() == NGRAMS[column].tolist()
    everything = rows(chart, "line", "nats")
    rules = everything[everything["tokens"].isna()]
    assert dict(zip(rules["line"], rules["nats"], strict=True)) == {"unigram entropy": 4.5, "bigram entropy": 2.7}
    assert {"unigram entropy", "bigram entropy", "KL from unigrams", "KL from bigrams", "loss"} <= set(texts(chart))
    low, high = specification(chart)["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert low == 0
    assert high > 6.1


def test_a_checkpoint_whose_tokens_are_unknown_is_not_drawn():
    partly_known = NGRAMS.assign(tokens=pd.array([0, None, 30_000], dtype="Int64"))
    assert sorted(set(rows(ngram_chart(partly_known), "tokens", "nats")["tokens"])) == [0, 30_000]
    with pytest.raises(ReportError, match="no checkpoint's training tokens are known"):
        ngram_chart(NGRAMS.assign(tokens=pd.array([None] * 3, dtype="Int64")))


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (similarity_chart, SIMILARITY),
        (lambda table: change_chart(table, ["step9", "main"]), CHANGES),
        (ngram_chart, NGRAMS),
    ],
    ids=["similarity", "changes", "n-gram"],
)
def test_an_empty_table_or_one_without_a_column_says_so(draw, table: pd.DataFrame):
    with pytest.raises(ReportError, match="table has no rows to draw"):
        draw(table.iloc[:0])
    missing = "tokens" if "tokens" in table else "other"
    with pytest.raises(ReportError, match=f"table lacks the column '{missing}'; it has"):
        draw(table.drop(columns=missing))


def test_an_unknown_measure_is_told_with_those_there_are():
    with pytest.raises(ReportError, match="lacks the column 'cosin'; it has revision, other, cosine"):
        similarity_chart(SIMILARITY, "cosin")


def test_drawing_leaves_the_table_as_it_was():
    before = CHANGES.copy()
    change_chart(CHANGES, ["step9", "main"])
    assert CHANGES.equals(before)
