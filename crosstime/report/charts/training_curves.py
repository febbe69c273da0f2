"""Training curves of the crosscoder."""

from __future__ import annotations

import math

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.panels import fit, panels
from crosstime.report.check_table import require_rows
from crosstime.report.columns import distinct

CURVES = {
    "loss": "loss",
    "l2": "squared error",
    "sparsity": "sparsity penalty",
    "l0": "active features per token",
    "dead": "share of dead features",
}
"""Columns of the training table that are drawn, and the titles of their panels."""


def training_chart(training: pd.DataFrame, *, points: int = 300) -> alt.FacetChart:
    """Training curves of the crosscoder, in one small panel each.

    Args:
        training: step, loss, l2, sparsity, l0, dead.
        points: largest number of points per curve; a longer curve is thinned evenly, always with its last point.

    Raises:
        ReportError: when the table is empty or lacks a column, or holds no value.

    Examples:
        >>> training_chart(training)  # doctest: +SKIP
    """
    # Thin the curves so that the last step remains
    table = require_rows(training, "training").sort_values("step", kind="stable")
    stride = math.ceil(len(table) / points)
    thinned = table.iloc[(len(table) - 1) % stride :: stride]

    # One row per curve and step
    curves = thinned.melt("step", list(CURVES), "curve", "value").dropna(subset="value")
    if curves.empty:
        raise ReportError("the training table holds no value to draw")
    curves["curve"] = curves["curve"].map(CURVES)

    # Thousands are abbreviated, but a fraction is not written in thousandths ("20m")
    label = "format(datum.value, abs(datum.value) < 1000 ? '.3~g' : '~s')"
    lines = (
        alt.Chart()
        .mark_line(strokeWidth=1.5, color=theme.PALETTE[0], point=len(thinned) == 1)
        .encode(
            x=alt.X("step:Q", axis=alt.Axis(labelExpr=label, tickCount=4), title="training step"),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(nice=4), axis=alt.Axis(tickCount=4, labelExpr=label)),
            tooltip=[alt.Tooltip("step:Q", format=","), alt.Tooltip("value:Q", format=".4~g")],
        )
    )
    chart = panels([lines], curves, "curve", distinct(curves["curve"]), width=240, height=110, columns=3)
    chart = chart.resolve_scale(y="independent")
    return chart.properties(usermeta=fit(panel=220, margin=84))
