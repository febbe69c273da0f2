"""Life cycles of the features."""

from __future__ import annotations

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.panels import fit, interval_column
from crosstime.report.check_table import require_columns
from crosstime.report.columns import UNDECIDED, distinct

ROW = 34
"""Height in pixels of a bar and the space below it."""

FAINT = ("never", UNDECIDED)
"""Of the features that are present at no checkpoint, or of which the test cannot say it; drawn in greys."""


def life_cycles_chart(shares: pd.DataFrame) -> alt.Chart:
    """Share of features with each life cycle, as a stacked bar for norms, for the test of presence, and for each task.

    Args:
        shares: source, life_cycle, count, share, low, high: the table ``life_cycle_shares`` of `crosstime.evolve`.

    Raises:
        ReportError: when the table lacks a column, or has no features.

    Examples:
        >>> life_cycles_chart(tables["life_cycle_shares"])  # doctest: +SKIP
    """
    # Keep the life cycles that occur, in the order of the table
    table = require_columns(shares, "life cycle", ["source", "life_cycle", "count", "share", "low", "high"])
    life_cycles = distinct(table["life_cycle"])
    table["place"] = table["life_cycle"].map(life_cycles.index)
    table = table[table["count"] > 0].copy()
    if table.empty:
        raise ReportError("the life cycle table holds no feature to draw")
    table["interval"] = interval_column(table)
    sources = distinct(table["source"])
    occurring = [life_cycle for life_cycle in life_cycles if life_cycle in set(table["life_cycle"])]

    # Encode the columns
    x_scale, x_axis = alt.Scale(domain=[0, 1]), alt.Axis(format=".0%", tickCount=5)
    y_axis = alt.Axis(ticks=False, domain=False, labelColor=theme.INK)
    colour_scale = theme.colour_scale(occurring, faint=FAINT)
    tooltip = [
        "source:N",
        alt.Tooltip("life_cycle:N", title="life"),
        alt.Tooltip("count:Q", title="features"),
        alt.Tooltip("share:Q", format=".2f"),
        "interval:N",
    ]

    # Stack the shares in one bar per source
    chart = (
        alt.Chart(table)
        .mark_bar(stroke="white")
        .encode(
            y=alt.Y("source:N", sort=sources, title=None, axis=y_axis),
            x=alt.X("share:Q", title="share of features", stack="zero", scale=x_scale, axis=x_axis),
            color=alt.Color("life_cycle:N", scale=colour_scale, legend=alt.Legend(columns=4)),
            order="place:Q",
            tooltip=tooltip,
        )
    )
    return chart.properties(width=560, height=ROW * len(sources), usermeta=fit(panel=200, margin=280))
