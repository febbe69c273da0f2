"""Charts of lives, onsets and decoders: what they draw, and what they refuse."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pandas as pd
import pytest

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.decoder_steps import decoder_steps_chart
from crosstime.report.charts.life_cycles import life_cycles_chart
from crosstime.report.charts.onsets import onsets_chart
from crosstime.report.charts.vega import script_json, specification, to_svg

ORDER = ["step9", "step10", "main"]
LIVES = ["never", "always", "emerging", "discontinued", "transient", "maintained", "intermittent"]
SHARES = pd.DataFrame(
    {"source": source, "life_cycle": life, "count": count, "share": count / 10, "low": low, "high": low}
    for source, low, counts in (
        ("decoder norm", float("nan"), (1, 4, 5, 0, 0, 0, 0)), ("IE: x", 0.1, (0, 2, 3, 5, 0, 0, 0)),
    )
    for life, count in zip(LIVES, counts, strict=True)
)  # fmt: skip
EVOLUTION = pd.DataFrame({"feature": range(6), "onset": ["step9", "main", "main", None, "step10", "main"]})
KINDS = pd.DataFrame({"feature": range(6), "kind": ["token", "token", "context", "silent", "context", "token"]})
STEPS = pd.DataFrame(
    [("step10", "step9", 80.0, 0.75, 4), ("main", "step10", 26.5, 0.25, 1)],
    columns=["revision", "previous", "degrees", "share", "turning"],
)
DIMENSIONS = pd.DataFrame(
    {"revision": ORDER, "total": [3.5, 7.25, 9.0], "mean": 0.5, "median": 0.5, "alive": [5, 9, 11]}
)
CHARTS = {
    "lives": lambda: life_cycles_chart(SHARES),
    "onsets": lambda: onsets_chart(EVOLUTION, KINDS, ORDER),
    "onsets without kinds": lambda: onsets_chart(EVOLUTION),
    "decoders": lambda: decoder_steps_chart(STEPS, DIMENSIONS),
    "decoders of one checkpoint": lambda: decoder_steps_chart(STEPS.iloc[:0], DIMENSIONS.iloc[:1]),
}


def rows(chart: Any, *columns: str) -> pd.DataFrame:
    """The rows of the chart's data that have all of `columns`, as Vega-Lite gets them."""
    datasets = specification(chart)["datasets"].values()
    return pd.DataFrame([row for data in datasets for row in data if set(columns) <= set(row)])


def texts(chart: Any) -> list[str]:
    svg = to_svg(specification(chart))
    return [node.text or "" for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_draws_fits_and_writes_no_missing_value(name: str):
    written = texts(CHARTS[name]())
    assert written
    assert not {text.lower() for text in written} & {"nan", "null", "undefined", "none"}
    spec = specification(CHARTS[name]())
    assert set(spec["usermeta"]) == {"panel", "margin", "fixed"}
    script_json(spec)  # raises on NaN


def test_lives_are_bars_of_the_features_that_have_them_and_never_is_grey():
    drawn = rows(life_cycles_chart(SHARES), "life_cycle")
    found = {(row.source, row.life_cycle): row.share for row in drawn.itertuples()}
    assert found == {
        ("decoder norm", "never"): 0.1, ("decoder norm", "always"): 0.4, ("decoder norm", "emerging"): 0.5,
        ("IE: x", "always"): 0.2, ("IE: x", "emerging"): 0.3, ("IE: x", "discontinued"): 0.5,
    }  # fmt: skip
    scale = specification(life_cycles_chart(SHARES))["encoding"]["color"]["scale"]
    painted = dict(zip(scale["domain"], scale["range"], strict=True))
    assert painted["never"] == theme.FAINT
    assert [painted[life] for life in ("always", "emerging", "discontinued")] == list(theme.PALETTE[:3])


def test_onsets_are_counted_by_checkpoint_and_kind():
    drawn = rows(onsets_chart(EVOLUTION, KINDS, ORDER), "revision", "features")
    assert {(row.revision, row.kind): row.features for row in drawn.itertuples()} == {
        ("step9", "token"): 1, ("main", "token"): 2, ("main", "context"): 1, ("step10", "context"): 1,
    }  # fmt: skip
    assert texts(onsets_chart(EVOLUTION, KINDS, ORDER)).index("step9") < texts(
        onsets_chart(EVOLUTION, KINDS, ORDER)
    ).index("main")


def test_decoders_have_a_bar_a_step_and_a_bar_a_checkpoint():
    drawn = rows(decoder_steps_chart(STEPS, DIMENSIONS), "panel", "value")
    values = {(row.panel.split()[0], row.revision): row.value for row in drawn.itertuples()}
    assert values == {
        ("degrees", "step10"): 80.0, ("degrees", "main"): 26.5,
        ("dimensions", "step9"): 3.5, ("dimensions", "step10"): 7.25, ("dimensions", "main"): 9.0,
    }  # fmt: skip
    assert "75% of all rotation; 4 features turn most here" in set(drawn.note)


def test_bars_of_many_checkpoints_stay_apart():
    many = [f"step{n}" for n in range(40)]
    chart = decoder_steps_chart(STEPS, pd.DataFrame({"revision": many, "total": 1.0, "alive": 1}), many)
    spec = specification(chart)["spec"]
    assert spec["layer"][0]["mark"]["width"] * len(many) < spec["width"]


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda: life_cycles_chart(SHARES.drop(columns="count")), "life cycle table lacks the column 'count'"),
        (lambda: life_cycles_chart(SHARES.assign(count=0)), "holds no feature"),
        (lambda: onsets_chart(EVOLUTION.assign(onset=None)), "no feature of the evolution table has an onset"),
        (lambda: onsets_chart(EVOLUTION, KINDS.drop(columns="kind")), "kinds table lacks the column 'kind'"),
        (lambda: decoder_steps_chart(STEPS.iloc[:0], DIMENSIONS.iloc[:0]), "neither rotation nor dimensionality"),
    ],
)
def test_tables_with_nothing_to_draw_are_refused(draw, sentence):
    with pytest.raises(ReportError, match=sentence):
        draw()
