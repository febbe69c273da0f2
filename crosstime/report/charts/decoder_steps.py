"""How decoder directions rotate from checkpoint to checkpoint, and how many dimensions they fill."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.panels import checkpoint_axis, checkpoint_order, fit, panels
from crosstime.report.check_table import require_columns
from crosstime.report.rows import Row, rows

WIDTH = 330
"""Width of a panel in pixels."""


def decoder_steps_chart(
    rotation_steps: pd.DataFrame, dimensionality: pd.DataFrame, compared: Sequence[str] | None = None
) -> alt.FacetChart:
    """Rotation of the decoder directions on the way to each checkpoint, and the dimensions they fill there.

    Left: mean angle between the decoder directions at a checkpoint and at the previous one, over the features that are
    present at both. Right: sum of the features' dimensionality.

    Args:
        rotation_steps: revision, previous, degrees, share, turning, from `crosstime.evolve`.
        dimensionality: revision, total, alive, from `crosstime.evolve`.
        compared: revisions in order; by default those of `dimensionality`.

    Raises:
        ReportError: when a table lacks a column, or both are empty.

    Examples:
        >>> decoder_steps_chart(tables["rotation_steps"], tables["dimensionality"])  # doctest: +SKIP
    """
    steps = require_columns(rotation_steps, "rotation steps", ["revision", "previous", "degrees", "share", "turning"])
    sizes = require_columns(dimensionality, "dimensionality", ["revision", "total", "alive"])
    order = checkpoint_order(sizes, compared)

    # One row per bar, with a sentence for its tooltip
    titles = ["degrees turned since the checkpoint before", "dimensions that the features fill"]
    bars = [(titles[0], row.text("revision"), row.number("degrees"), _rotation_note(row)) for row in rows(steps)]
    bars += [
        (titles[1], row.text("revision"), row.number("total"), f"{row.number('alive'):,.0f} features present")
        for row in rows(sizes)
    ]
    table = pd.DataFrame(bars, columns=["panel", "revision", "value", "note"]).dropna(subset="value")
    if table.empty:
        raise ReportError("neither rotation nor dimensionality has a value to draw")

    # Draw one panel per quantity
    marks = (
        alt.Chart()
        .mark_bar(width=bar_width(WIDTH, len(order)), color=theme.PALETTE[0])
        .encode(
            x=checkpoint_axis(order),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=5)),
            tooltip=[alt.Tooltip("revision:N", title="checkpoint"), alt.Tooltip("value:Q", format=".3~f"), "note:N"],
        )
    )
    drawn_titles = [title for title in titles if title in set(table["panel"])]
    chart = panels([marks], table, "panel", drawn_titles, width=WIDTH, height=190)
    return chart.resolve_scale(y="independent").properties(usermeta=fit(panel=240, margin=84))


def bar_width(width: int, bars: int) -> int:
    """Return the width of a bar in pixels, so that `bars` of them do not touch in a plot of the given width.

    Examples:
        >>> bar_width(330, 3), bar_width(330, 40)
        (32, 5)
    """
    return max(2, min(32, round(0.6 * width / bars)))


def _rotation_note(row: Row) -> str:
    return f"{row.number('share'):.0%} of all rotation; {row.number('turning'):,.0f} features turn most here"
