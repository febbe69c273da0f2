"""The crosscoder beside other dictionaries: what the top n features of each carry."""

from __future__ import annotations

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.faithfulness import TICKS, WIDEST_INTERVAL
from crosstime.report.charts.panels import fit, group_encodings, one_row, padded, panels
from crosstime.report.check_table import check_table
from crosstime.report.columns import distinct

PANELS = {"effect_share": "share of effects", "faithfulness": "top n kept", "completeness": "top n taken away"}
"""Columns that are drawn, and the titles of their panels."""


def baselines_chart(baselines: pd.DataFrame) -> alt.FacetChart:
    """Share of all effects, faithfulness and completeness of the top n features of each dictionary, against n.

    One row of panels for each task and checkpoint. Shares of the metric whose interval is wider than `WIDEST_INTERVAL`
    are omitted, as at a checkpoint that does not do the task.

    Args:
        baselines: a table as `crosstime.baselines` returns it.

    Raises:
        ReportError: when the table lacks a column or holds no value.

    Examples:
        >>> baselines_chart(ct.baselines(suite, crosscoder, task, dictionaries))  # doctest: +SKIP
    """
    # One row per share
    table = check_table(baselines, "baselines")
    curves = _curves(table)
    if curves["value"].isna().all():
        raise ReportError("the baselines table has no value to draw")
    dictionaries = distinct(table["dictionary"])

    # Encode shares and sizes
    low, high = padded([*curves["value"].dropna(), 0.0, 1.0])
    y_scale = alt.Scale(domain=[max(low, -1.0), min(high, 2.0)], nice=False, clamp=True)
    y = alt.Y("value:Q", title="share", scale=y_scale, axis=alt.Axis(format=".1f", tickCount=5))
    ticks = [n for n in TICKS if n <= curves["n"].max()]
    x_scale = alt.Scale(type="log", nice=False)
    x = alt.X("n:Q", title="features (log scale)", scale=x_scale, axis=alt.Axis(values=ticks, format="d"))
    colour, shape = group_encodings("dictionary", dictionaries, alt.Legend(columns=3))
    tooltip = [
        alt.Tooltip("dictionary:N"),
        alt.Tooltip("n:Q"),
        alt.Tooltip("value:Q", format=".3f", title="share"),
        alt.Tooltip("low:Q", format=".3f"),
        alt.Tooltip("high:Q", format=".3f"),
    ]

    # Draw the curves, with rules at the shares 0 and 1
    base, rule = alt.Chart(), alt.Chart(one_row()).mark_rule(color=theme.FAINT, strokeDash=[3, 3])
    layers = [
        rule.encode(y=alt.datum(0)),
        rule.encode(y=alt.datum(1)),
        base.mark_line().encode(x=x, y=y, color=colour),
        base.mark_point(filled=True, opacity=1, size=34).encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip),
    ]
    chart = panels(layers, curves, "panel", distinct(curves["panel"]), width=230, height=180, columns=3, gap=70)
    return chart.properties(usermeta=fit(panel=230, margin=70))


def _curves(table: pd.DataFrame) -> pd.DataFrame:
    """Return task, revision, dictionary, n, value, low, high and panel, one row per share."""
    thirds = []
    for column, title in PANELS.items():
        third = table[["task", "revision", "dictionary", "n"]].copy()
        third["value"] = table[column]
        for end in ("low", "high"):
            third[end] = table.get(f"{column}_{end}", float("nan"))
        third["panel"] = third["task"] + " at " + third["revision"] + ": " + title
        thirds.append(third)

    # A row of panels for each task and checkpoint
    curves = pd.concat(thirds).rename_axis("row").reset_index()
    order = table.groupby(["task", "revision"], sort=False).ngroup()
    curves["place"] = curves["row"].map(order)
    curves = curves.sort_values("place", kind="stable").drop(columns=["row", "place"]).reset_index(drop=True)

    # Values that say nothing are missing, so that their panel keeps its place
    curves["value"] = curves["value"].where(~(curves["high"] - curves["low"] > WIDEST_INTERVAL))
    return curves
