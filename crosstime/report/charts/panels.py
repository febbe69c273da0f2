"""Building blocks that the charts share: layers, panels, axes, and the regions of the three classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.report.charts import notebook, theme
from crosstime.report.columns import distinct
from crosstime.report.numbers import interval

ABSENT_BELOW, SPECIFIC_ABOVE = 0.3, 0.7
"""Bounds of the classes of a relative value: absent from a checkpoint below, specific to it above."""

# Every chart is fitted by this module, so that none is displayed before its renderer is there
notebook.enable()

PICKED = alt.VariableParameter(name="picked", value=None)
"""Chart parameter with the feature whose card is open. `charts.js` sets it; it has no effect in a notebook."""


def overlay(layers: Sequence[alt.Chart]) -> alt.LayerChart:
    """Draw `layers` on top of each other, the first at the bottom."""
    return alt.LayerChart(layer=list(layers))


def ring_picked(base: alt.Chart) -> alt.Chart:
    """Draw a ring around the points of the picked feature.

    Args:
        base: a chart whose data have a column ``feature``; the finished chart needs the parameter `PICKED`.
    """
    points = base.transform_filter("picked !== null && datum.feature === picked")
    return points.mark_point(filled=False, size=190, strokeWidth=2.5, color=theme.INK, opacity=1)


def checkpoint_order(table: pd.DataFrame, compared: Sequence[str] | None) -> list[str]:
    """Return the compared revisions in order; without them, those of the table in order of first appearance."""
    return list(compared) if compared is not None else distinct(table["revision"])


def checkpoint_axis(order: Sequence[str]) -> alt.X:
    """Return a horizontal axis of checkpoints, evenly spaced in the given order."""
    return alt.X(
        "revision:N",
        sort=list(order),
        title="checkpoint",
        scale=alt.Scale(domain=list(order), type="point", padding=0.25),
        axis=alt.Axis(labelAngle=0 if len(order) <= 6 else -40, labelOverlap=False, labelLimit=120),
    )


def class_axis() -> alt.Axis:
    """Return an axis from 0 to 1 with ticks at the bounds of the classes."""
    return alt.Axis(values=[0, ABSENT_BELOW, 0.5, SPECIFIC_ABOVE, 1], format=".1f", grid=False)


def group_encodings(field: str, names: Sequence[str], legend: alt.Legend | None) -> tuple[alt.Color, alt.Shape]:
    """Return the colour and the point shape that distinguish the values of `field`, under one legend."""
    colour = alt.Color(f"{field}:N", scale=theme.colour_scale(names), legend=legend)
    shape = alt.Shape(f"{field}:N", scale=theme.shape_scale(names), legend=legend)
    return colour, shape


def interval_column(table: pd.DataFrame, low: str = "low", high: str = "high", decimals: int = 3) -> list[str]:
    """Format the interval of every row for tooltips, from the columns of its bounds."""
    return [interval(lower, upper, decimals) for lower, upper in zip(table[low], table[high], strict=True)]


def one_row() -> alt.InlineData:
    """Return data of one empty row: Vega-Lite draws a mark without fields once per row."""
    return alt.InlineData(values=[{}])


def fit(*, panel: int, margin: int, fixed: bool = False) -> dict[str, object]:
    """Return the ``usermeta`` that tells `charts.js` how to fit a chart to the width of a screen.

    Args:
        panel: least width of a panel in pixels.
        margin: width in pixels that axes and labels take next to a panel.
        fixed: whether the size must not change, because labels were placed for it.
    """
    return {"panel": panel, "margin": margin, "fixed": fixed}


def padded(values: Sequence[float | int], pad: float = 0.04) -> list[float]:
    """Return an axis domain that contains all finite `values`, extended by the fraction `pad` at both ends."""
    finite = [float(value) for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    padding = (high - low) * pad or 0.05
    return [low - padding, high + padding]


def panels(
    layers: Sequence[alt.Chart],
    data: pd.DataFrame,
    field: str,
    order: Sequence[str],
    *,
    width: int,
    height: int | alt.Step,
    columns: int = 2,
    gap: int = 60,
) -> alt.FacetChart:
    """Draw `layers` on top of each other in one panel for each value of `field`.

    Args:
        layers: charts without data, or with data that every panel shows.
        data: rows to split among the panels.
        field: column that splits them.
        order: values of that column in the order of the panels.
        width: width of a panel in pixels.
        height: height of a panel in pixels, or of each of its rows.
        columns: largest number of panels in a row.
        gap: pixels between two panels of a row, which must hold the axis of the right one.
    """
    panel = overlay(layers).properties(width=width, height=height)
    facet = alt.Facet(f"{field}:N", sort=list(order))
    chart = panel.facet(facet=facet, data=data, columns=min(columns, len(order)))

    # Every panel keeps its own axis, because on a narrow screen the panels are stacked
    chart = chart.resolve_axis(x="independent")
    # Flush bounds align the panels whatever the width of their axis labels, which lie in the spacing
    return chart.properties(bounds="flush", spacing=alt.RowColnumber(row=86, column=gap))


def class_regions(size: int) -> list[alt.Chart]:
    """Return the layers behind a chart of RelIE: bands of its classes, their names, and rules at both axes' bounds.

    Args:
        size: width of the square panel in pixels.
    """
    bounds = {
        "absent": (0.0, ABSENT_BELOW),
        "shared": (ABSENT_BELOW, SPECIFIC_ABOVE),
        "specific": (SPECIFIC_ABOVE, 1.0),
    }
    base = alt.Chart(one_row())

    # Bands of the classes by RelIE, and rules at the bounds
    bands = [
        base.mark_rect(color=theme.REGION[name]).encode(
            x=alt.datum(0), x2=alt.datum(1), y=alt.datum(low), y2=alt.datum(high)
        )
        for name, (low, high) in bounds.items()
    ]
    rule = base.mark_rule(color=theme.FAINT, strokeDash=[3, 3])
    vertical = [rule.encode(x=alt.datum(bound)) for bound in (ABSENT_BELOW, SPECIFIC_ABOVE)]
    horizontal = [rule.encode(y=alt.datum(bound)) for bound in (ABSENT_BELOW, SPECIFIC_ABOVE)]

    # Names of the classes above the panel and to its right
    above = [
        base.mark_text(fontSize=10, color=theme.MUTED, baseline="bottom", text=name).encode(
            x=alt.datum((low + high) / 2), y=alt.value(-4)
        )
        for name, (low, high) in bounds.items()
    ]
    right = [
        base.mark_text(fontSize=10, color=theme.MUTED, angle=90, baseline="bottom", text=name).encode(
            x=alt.value(size + 4), y=alt.datum((low + high) / 2)
        )
        for name, (low, high) in bounds.items()
    ]
    return [*bands, *vertical, *horizontal, *above, *right]
