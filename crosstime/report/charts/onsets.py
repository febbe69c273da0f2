"""When features emerge."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.decoder_steps import bar_width
from crosstime.report.charts.panels import checkpoint_axis, fit
from crosstime.report.check_table import require_columns
from crosstime.report.columns import distinct

WIDTH = 560
"""Width of the plot in pixels."""

SILENT = "silent"
"""Kind of the features that do not fire; drawn in grey."""


def onsets_chart(
    evolution: pd.DataFrame, kinds: pd.DataFrame | None = None, compared: Sequence[str] | None = None
) -> alt.Chart:
    """Number of features whose onset is at each checkpoint, stacked by kind if kinds are given.

    Args:
        evolution: feature and onset: the table ``evolution`` of `crosstime.evolve`.
        kinds: feature and kind: the table ``kinds`` of `crosstime.evolve`.
        compared: revisions in order; by default in order of first appearance.

    Raises:
        ReportError: when a table lacks a column, or no feature has an onset.

    Examples:
        >>> onsets_chart(tables["evolution"], tables["kinds"], ["step64", "main"])  # doctest: +SKIP
    """
    table = require_columns(evolution, "evolution", ["feature", "onset"])
    table = table.dropna(subset="onset").astype({"onset": object})
    if table.empty:
        raise ReportError("no feature of the evolution table has an onset")
    order = list(compared) if compared is not None else distinct(table["onset"])

    # Look up the kind of each feature
    kind = pd.Series("features", index=table.index)
    if kinds is not None:
        kind_of = require_columns(kinds, "kinds", ["feature", "kind"]).set_index("feature")["kind"]
        kind = table["feature"].map(kind_of).fillna("unknown")

    # Count the features by onset and kind; the most frequent kind is at the bottom
    counts = table.assign(kind=kind).groupby(["onset", "kind"], sort=False).size().reset_index(name="features")
    totals = counts.groupby("kind")["features"].sum().sort_values(ascending=False, kind="stable")
    names = totals.index.tolist()
    counts = counts.rename(columns={"onset": "revision"}).assign(place=counts["kind"].map(names.index))

    # Draw the bars
    legend = alt.Legend(columns=4) if len(names) > 1 else None
    chart = (
        alt.Chart(counts)
        .mark_bar(stroke="white", width=bar_width(WIDTH, len(order)))
        .encode(
            x=checkpoint_axis(order).title("checkpoint of the onset"),
            y=alt.Y("features:Q", title="features", stack="zero", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color("kind:N", scale=theme.colour_scale(names, faint=[SILENT]), legend=legend),
            order="place:Q",
            tooltip=[alt.Tooltip("revision:N", title="onset"), "kind:N", "features:Q"],
        )
    )
    return chart.properties(width=WIDTH, height=220, usermeta=fit(panel=240, margin=90))
