"""Complexity of features, as a language model rates it, against their onset."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.panels import checkpoint_axis, fit, panels
from crosstime.report.check_table import require_columns
from crosstime.report.columns import distinct

LEVELS = (1, 2, 3, 4, 5)
"""Levels of complexity."""


def complexity_chart(complexity: pd.DataFrame, compared: Sequence[str] | None = None) -> alt.FacetChart:
    """Features by complexity and onset, one panel for the run and one for each null model.

    The area of a point is proportional to the number of features; a line joins the means of the onsets.

    Args:
        complexity: source, feature, drawn, complexity, onset: the table of `crosstime.describe`. Only features that
            were drawn at random are counted.
        compared: revisions in order; by default in order of first appearance.

    Raises:
        ReportError: when a column is missing, or no drawn feature has both complexity and onset.

    Examples:
        >>> complexity_chart(ct.describe("runs/mine").complexity, ["step64", "main"])  # doctest: +SKIP
    """
    table = require_columns(complexity, "complexity", ["source", "drawn", "complexity", "onset"])
    table = table[table["drawn"].astype(bool) & table["complexity"].notna()]
    table = table[table["onset"].notna() & (table["onset"] != "")].astype({"onset": object})
    if table.empty:
        raise ReportError("no feature of the complexity table has both complexity and onset")
    order = list(compared) if compared is not None else distinct(table["onset"])

    # Count features, and add the mean of each onset
    table = table.rename(columns={"onset": "revision"})
    places = ["source", "revision"]
    counts = table.groupby([*places, "complexity"], sort=False).size().reset_index(name="features")
    means = table.groupby(places, sort=False)["complexity"].agg(["mean", "size"]).reset_index()
    means = means.rename(columns={"size": "features"})
    data = pd.concat([counts, means], ignore_index=True)

    # Encode levels and counts
    x = checkpoint_axis(order).title("checkpoint of the onset")
    scale, axis = alt.Scale(domain=[0.5, 5.5], nice=False), alt.Axis(values=list(LEVELS), format="d")
    y, mean_y = (alt.Y(f"{name}:Q", title="complexity", scale=scale, axis=axis) for name in ("complexity", "mean"))
    size = alt.Size(
        "features:Q",
        scale=alt.Scale(type="linear", domain=[0, int(counts["features"].max())], range=[0, 420]),
        legend=alt.Legend(title="features", format="d", tickCount=3, symbolFillColor=theme.FAINT),
    )
    tooltip = [alt.Tooltip("revision:N", title="onset"), "complexity:Q", "features:Q"]
    mean_tooltip = [
        alt.Tooltip("revision:N", title="onset"),
        alt.Tooltip("mean:Q", format=".2f", title="mean complexity"),
        "features:Q",
    ]

    # Draw the counts under the means
    base = alt.Chart()
    layers = [
        base.transform_filter("isValid(datum.complexity)")
        .mark_circle(color=theme.FAINT, opacity=1)
        .encode(x=x, y=y, size=size, tooltip=tooltip),
        base.transform_filter("isValid(datum.mean)").mark_line(color=theme.PALETTE[0]).encode(x=x, y=mean_y),
        base.transform_filter("isValid(datum.mean)")
        .mark_point(filled=True, opacity=1, size=44, color=theme.PALETTE[0])
        .encode(x=x, y=mean_y, tooltip=mean_tooltip),
    ]
    chart = panels(layers, data, "source", distinct(data["source"]), width=300, height=220, columns=2)
    return chart.properties(usermeta=fit(panel=240, margin=80))
