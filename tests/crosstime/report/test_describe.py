"""Descriptions of features in charts: every tooltip of a feature has the description that people wrote."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import report_sample as sample

from crosstime.errors import ReportError
from crosstime.report.charts.accuracy import accuracy_chart
from crosstime.report.charts.describe import describe
from crosstime.report.charts.effects import effects_chart
from crosstime.report.charts.norms import norms_chart
from crosstime.report.charts.relie import relie_chart
from crosstime.report.charts.ternary import ternary_chart
from crosstime.report.charts.vega import specification, to_svg

NOTES = pd.DataFrame({"feature": [7, 404], "description": ["plural <b>nouns</b>", "a verb"], "complexity": [2.0, 1.0]})
CHARTS = {
    "effects": lambda: effects_chart(sample.effects(), sample.COMPARED),
    "temporal": lambda: relie_chart(sample.temporal(), sample.COMPARED),
    "ternary": lambda: ternary_chart(sample.temporal(), sample.COMPARED),
    "norms": lambda: norms_chart(sample.temporal(), sample.COMPARED),
}


def fields(part: Any) -> list[list[str]]:
    if isinstance(part, dict):
        tooltip = part.get("tooltip")
        names = [[field.get("field") for field in tooltip]] if isinstance(tooltip, list) else []
        return names + [nested for value in part.values() for nested in fields(value)]
    return [nested for value in part for nested in fields(value)] if isinstance(part, list) else []


@pytest.mark.parametrize("name", CHARTS)
def test_every_feature_of_a_chart_has_its_description(name: str):
    plain, chart = CHARTS[name](), describe(CHARTS[name](), NOTES)
    spec = specification(chart)
    rows = [row for listed in spec["datasets"].values() for row in listed if "feature" in row]
    assert {row["feature"] for row in rows} >= {7, 404}
    for row in rows:
        assert row["description"] == {7: "plural <b>nouns</b>", 404: "a verb"}.get(row["feature"], "")
    named = [names for names in fields(spec) if "name" in names]
    assert named
    assert all(names[-1] == "description" for names in named)
    assert all("description" not in names for names in fields(specification(plain)))
    assert to_svg(spec).startswith("<svg")


def test_what_cannot_be_described_is_refused():
    with pytest.raises(ReportError, match="lack the column 'description'"):
        describe(CHARTS["effects"](), NOTES[["feature"]])
    with pytest.raises(ReportError, match="no features"):
        describe(accuracy_chart(sample.accuracy()), NOTES)
