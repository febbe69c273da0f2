"""The section and the chart that compare the crosscoder with other dictionaries."""

from __future__ import annotations

import pandas as pd
import pytest

from crosstime.errors import ReportError
from crosstime.report.charts.baselines import baselines_chart
from crosstime.report.check_table import check_table
from crosstime.report.page.baselines import baselines_section


@pytest.fixture
def baselines() -> pd.DataFrame:
    """Two dictionaries at two checkpoints; at the first, the model does not do the task."""
    rows = [
        {
            "task": "mine", "revision": revision, "dictionary": name, "size": 16, "l0": 2.5, "n": n,
            "effect_share": 0.5, "faithfulness": 0.4, "completeness": 0.7, "accuracy_kept": 0.5,
            "accuracy_ablated": 0.5, "cpr": 0.31, "cmd": 0.62, "cpr_difference": 0.12, "cmd_difference": -0.08,
        }
        for revision in ("step0", "step9")
        for name in ("crosscoder", "neurons")
        for n in (1, 10)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    for column in ("faithfulness", "completeness", "cpr", "cmd", "cpr_difference", "cmd_difference"):
        wide = (table["revision"] == "step0").astype(float) * 9 + 0.05
        table[f"{column}_low"], table[f"{column}_high"] = table[column] - wide, table[column] + wide
    return check_table(table, "baselines")


def test_the_section_has_a_row_for_each_checkpoint_and_dictionary(baselines):
    page = "".join(str(part) for part in baselines_section(baselines))
    assert page.count("<tr") == 1 + 4
    assert "0.31 [0.26, 0.36]" in page
    assert "0.12 [0.07, 0.17]" in page
    assert page.count("–") >= 4


def test_the_section_speaks_of_models_side_by_side(baselines):
    checkpoints, models = (
        "".join(str(part) for part in baselines_section(baselines, ordered=ordered)) for ordered in (True, False)
    )
    assert "checkpoint" in checkpoints
    assert "checkpoint" not in models
    assert models == checkpoints.replace("checkpoint", "model")


def test_the_chart_draws_nothing_where_nothing_is_known(baselines):
    specification = baselines_chart(baselines).to_dict()
    rows = [row for values in specification["datasets"].values() for row in values if "panel" in row]
    drawn = {(row["panel"], row["dictionary"], row["n"]) for row in rows if row["value"] is not None}
    titles = ("share of effects", "top n kept", "top n taken away")
    panels = [f"mine at {revision}: {title}" for revision in ("step0", "step9") for title in titles]
    known = [panels[0], *panels[3:]]
    assert drawn == {(panel, name, n) for panel in known for name in ("crosscoder", "neurons") for n in (1, 10)}
    assert specification["facet"]["sort"] == panels


def test_a_table_without_values_is_refused(baselines):
    with pytest.raises(ReportError, match="no value to draw"):
        baselines_chart(baselines.iloc[:0])
    with pytest.raises(ReportError, match="lacks the column 'dictionary'"):
        baselines_chart(baselines.drop(columns="dictionary"))
