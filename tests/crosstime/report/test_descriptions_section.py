"""The section of the report about descriptions, and its chart."""

from __future__ import annotations

import pandas as pd
import pytest

from crosstime.errors import ReportError
from crosstime.report.charts.complexity import complexity_chart
from crosstime.report.check_table import check_table
from crosstime.report.columns import COLUMNS
from crosstime.report.page.descriptions import descriptions_section
from crosstime.report.page.markup import element

ORDER = ["step0", "step64", "main"]


def features() -> pd.DataFrame:
    """Features of a run and of a null model; the last of the run was selected, and not drawn."""
    onsets = ["step0", "step0", "step64", "main", "main"]
    rows = [
        ("run", f, f < 4, f == 4, "a <b>word</b>", c, onset, 0.75, 0.5)
        for f, (c, onset) in enumerate(zip((1, 3, 3, 5, 1), onsets, strict=True))
    ]
    rows += [("random-weights-0", f, True, False, "noise", 2, onset, 0.5, 0.5) for f, onset in enumerate(onsets)]
    return pd.DataFrame(rows, columns=list(COLUMNS["complexity"]))


def sources() -> pd.DataFrame:
    numbers = dict.fromkeys(COLUMNS["descriptions"], 0.25) | {"asked": 4, "described": 3, "detection": 0.875}
    row = numbers | {"source": "run", "detection_low": 0.75, "detection_high": 1.0}
    null = numbers | {"source": "random-weights-0", "onset_r": float("nan"), "onset_p": float("nan")}
    return pd.DataFrame([row, null])


def test_the_chart_counts_drawn_features_and_joins_the_means_of_onsets():
    spec = complexity_chart(features(), ORDER).to_dict()
    data = pd.DataFrame(next(iter(spec["datasets"].values())))
    run = data[data.source == "run"]
    counts = run[run.complexity.notna()].set_index(["revision", "complexity"]).features
    assert counts.to_dict() == {("step0", 1): 1, ("step0", 3): 1, ("step64", 3): 1, ("main", 5): 1}
    means = run[run["mean"].notna()].set_index("revision")["mean"]
    assert means.to_dict() == {"step0": 2, "step64": 3, "main": 5}
    assert data[data.source != "run"].features.sum() == 2 * 5
    assert spec["facet"]["sort"] == ["run", "random-weights-0"]


def test_without_onsets_there_is_no_chart():
    with pytest.raises(ReportError, match="no feature of the complexity table has both complexity and onset"):
        complexity_chart(features().assign(onset=None), ORDER)
    with pytest.raises(ReportError, match="lacks the column 'drawn'"):
        complexity_chart(features().drop(columns="drawn"), ORDER)


def test_the_section_has_a_row_for_the_run_and_each_null_model():
    tables = check_table(sources(), "descriptions"), check_table(features(), "complexity")
    html = str(element("section", *descriptions_section(*tables, None)))
    assert html.index("random-weights-0") > html.index(">run<")
    assert "0.88 [0.75, 1.00]" in html
    assert "3 of 4" in html
    assert "All 5 described features" in html
    # Descriptions are text, and only selected features have a card
    assert "<b>word" not in html
    assert "&lt;b&gt;word" in html
    assert 'href="#f4"' in html
    assert 'href="#f3"' not in html

    models = str(element("section", *descriptions_section(*tables, None, ordered=False)))
    assert "r with onset" in html
    assert "r with onset" not in models
