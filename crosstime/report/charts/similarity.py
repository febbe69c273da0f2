"""How the checkpoints of a suite differ, as heat maps of pairs of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.panels import fit, overlay
from crosstime.report.check_table import require_columns

CELL = 46
"""Width and height of a cell in pixels."""

MEASURES = {
    "cosine": "mean cosine",
    "pearson": "mean Pearson correlation",
    "cka": "linear CKA",
}
"""Columns of the similarity table, and their titles."""


def similarity_chart(similarity: pd.DataFrame, measure: str = "cosine") -> alt.LayerChart:
    """Similarity of each pair of checkpoints, as a heat map with the number in every cell.

    Args:
        similarity: revision, other and the measure, from `crosstime.similarity`.
        measure: column to draw: cosine, pearson or cka.

    Raises:
        ReportError: when the table is empty or lacks the measure.

    Examples:
        >>> similarity_chart(similarity, "cka")  # doctest: +SKIP
    """
    table = _pairs(similarity, "similarity", measure)
    return _heat_map(table, MEASURES.get(measure, measure), [], highest=max(1.0, float(table["value"].max())))


def change_chart(changes: pd.DataFrame, chosen: Sequence[str]) -> alt.LayerChart:
    """Change between each pair of checkpoints, as a heat map with frames around the steps of the chosen checkpoints.

    Args:
        changes: revision, other, change: `Choice.changes` of `crosstime.suites.select`.
        chosen: the chosen revisions in order.

    Raises:
        ReportError: when the table is empty or lacks a column.

    Examples:
        >>> change_chart(choice.changes, choice.revisions)  # doctest: +SKIP
    """
    table = _pairs(changes, "changes", "change")
    title = f"change; framed: {' → '.join(chosen)}"
    return _heat_map(table, title, list(pairwise(chosen)), highest=float(table["value"].max()))


def _pairs(frame: pd.DataFrame, name: str, measure: str) -> pd.DataFrame:
    """Return revision, other and the measure as ``value``."""
    table = require_columns(frame, name, ["revision", "other", measure]).rename(columns={measure: "value"})
    if table.empty:
        raise ReportError(f"the {name} table has no rows to draw")
    return table


def _heat_map(table: pd.DataFrame, title: str, framed: Sequence[tuple[str, str]], *, highest: float) -> alt.LayerChart:
    """Draw a heat map of ``value`` with frames around the pairs in `framed`; the darkest colour is at `highest`."""
    # If each pair is listed once, the last checkpoint has no row and the first no column
    order = list(dict.fromkeys([*table["revision"], *table["other"]]))
    row_names, column_names = ([name for name in order if name in set(table[side])] for side in ("revision", "other"))
    width, height = CELL * len(column_names), CELL * len(row_names)

    # Numbers on dark cells are white
    low = min(0.0, float(table["value"].min()))
    table["framed"] = [pair in framed for pair in zip(table["revision"], table["other"], strict=True)]
    table["dark"] = table["value"] > low + 0.55 * (highest - low)

    # Encode the columns
    row_axis = alt.Axis(ticks=False, domain=False, labelColor=theme.INK)
    column_axis = alt.Axis(ticks=False, domain=False, labelColor=theme.INK, labelAngle=-40)
    colour_scale = alt.Scale(domain=[low, highest], range=["#f4f6fb", theme.PALETTE[0]])
    tooltip = ["revision:N", "other:N", alt.Tooltip("value:Q", format=".4f")]
    base = alt.Chart(table).encode(
        x=alt.X("other:N", sort=column_names, title=None, scale=alt.Scale(domain=column_names), axis=column_axis),
        y=alt.Y("revision:N", sort=row_names, title=None, scale=alt.Scale(domain=row_names), axis=row_axis),
    )

    # Draw the cells, the frames and the numbers
    layers = [
        base.mark_rect(stroke="white").encode(
            color=alt.Color("value:Q", scale=colour_scale, legend=None), tooltip=tooltip
        ),
        base.transform_filter("datum.framed").mark_rect(fill=None, stroke=theme.PALETTE[1], strokeWidth=3),
        base.mark_text(fontSize=11).encode(
            text=alt.Text("value:Q", format=".2f"),
            color=alt.condition("datum.dark", alt.value("white"), alt.value(theme.INK)),
        ),
    ]
    chart = overlay(layers).properties(title=title, width=width, height=height)
    return chart.properties(usermeta=fit(panel=width, margin=120, fixed=True))
