"""Charts of life cycles, onsets and decoders: what they draw, and what they reject."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pandas as pd
import pytest
from chart_rows import rows

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.decoder_steps import decoder_steps_chart
from crosstime.report.charts.life_cycles import life_cycles_chart
from crosstime.report.charts.onsets import onsets_chart
from crosstime.report.charts.vega import script_json, specification, to_svg

ORDER = ["step9", "step10", "main"]
LIVES = ["never", "always", "emerging", "discontinued", "transient", "maintained", "intermittent"]
COUNTS = {"decoder norm": (1, 4, 5, 0, 0, 0, 0), "IE: x": (0, 2, 3, 5, 0, 0, 0)}
BOUND = {"decoder norm": float("nan"), "IE: x": 0.1}
SHARES = pd.DataFrame(
    [
        (source, life, count, count / 10, BOUND[source], BOUND[source])
        for source, counts in COUNTS.items()
        for life, count in zip(LIVES, counts, strict=True)
    ],
    columns=["source", "life_cycle", "count", "share", "low", "high"],
)
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


def texts(chart: Any) -> list[str]:
    svg = to_svg(specification(chart))
    return [node.text or "" for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_draws_fits_and_writes_no_missing_value(name: str):
    labels = texts(CHARTS[name]())
    assert labels
    assert not {text.lower() for text in labels} & {"nan", "null", "undefined", "none"}
    spec = specification(CHARTS[name]())
    assert set(spec["usermeta"]) == {"panel", "margin", "fixed"}
    script_json(spec)  # raises on NaN


def test_lives_are_bars_of_the_features_that_have_them_and_never_is_grey():
    drawn = rows(life_cycles_chart(SHARES), "life_cycle")
    shares = {
        source: dict(zip(rows_of.life_cycle, rows_of.share, strict=True)) for source, rows_of in drawn.groupby("source")
    }
    assert shares == {
        "decoder norm": {"never": 0.1, "always": 0.4, "emerging": 0.5},
        "IE: x": {"always": 0.2, "emerging": 0.3, "discontinued": 0.5},
    }
    scale = specification(life_cycles_chart(SHARES))["encoding"]["color"]["scale"]
    painted = dict(zip(scale["domain"], scale["range"], strict=True))
    assert painted["never"] == theme.FAINT
    assert [painted[life] for life in ("always", "emerging", "discontinued")] == list(theme.PALETTE[:3])


def test_undecided_features_have_a_grey_of_their_own():
    undecided = SHARES.assign(life_cycle=SHARES.life_cycle.replace("emerging", "undecided"))
    scale = specification(life_cycles_chart(undecided))["encoding"]["color"]["scale"]
    painted = dict(zip(scale["domain"], scale["range"], strict=True))
    assert painted["undecided"] in theme.GREYS
    assert painted["undecided"] != painted["never"]
    assert painted["always"] == theme.PALETTE[0]


def test_onsets_are_counted_by_checkpoint_and_kind():
    drawn = rows(onsets_chart(EVOLUTION, KINDS, ORDER), "revision", "features")
    counts = {kind: dict(zip(group.revision, group.features, strict=True)) for kind, group in drawn.groupby("kind")}
    assert counts == {"token": {"step9": 1, "main": 2}, "context": {"main": 1, "step10": 1}}
    assert texts(onsets_chart(EVOLUTION, KINDS, ORDER)).index("step9") < texts(
        onsets_chart(EVOLUTION, KINDS, ORDER)
    ).index("main")


def test_decoders_have_a_bar_a_step_and_a_bar_a_checkpoint():
    drawn = rows(decoder_steps_chart(STEPS, DIMENSIONS), "panel", "value")
    values = {
        panel.split()[0]: dict(zip(group.revision, group.value, strict=True)) for panel, group in drawn.groupby("panel")
    }
    assert values == {
        "degrees": {"step10": 80.0, "main": 26.5},
        "dimensions": {"step9": 3.5, "step10": 7.25, "main": 9.0},
    }
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
