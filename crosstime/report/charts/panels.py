"""What charts share: panels side by side, their domains, and the regions of the three classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.report.charts import theme

ABSENT_BELOW, SPECIFIC_ABOVE = 0.3, 0.7
"""Bounds of the classes of a relative value: below, absent from a checkpoint; above, specific to it."""

PICKED = alt.VariableParameter(name="picked", value=None)
"""The feature whose card is open, as a parameter of a chart; `charts.js` sets it, in a notebook nothing does."""


def picked(base: alt.Chart) -> alt.Chart:
    """Ring the points of the picked feature; `base` has a column ``feature``, its chart the parameter `PICKED`."""
    chosen = base.transform_filter("picked !== null && datum.feature === picked")
    return chosen.mark_point(filled=False, size=190, strokeWidth=2.5, color=theme.INK, opacity=1)


def checkpoint_axis(order: Sequence[str]) -> alt.X:
    """Return the axis of compared checkpoints, evenly spaced in their order."""
    return alt.X(
        "revision:N",
        sort=list(order),
        title="checkpoint",
        scale=alt.Scale(domain=list(order), type="point", padding=0.25),
        axis=alt.Axis(labelAngle=0 if len(order) <= 6 else -40, labelOverlap=False, labelLimit=120),
    )


def one_row() -> alt.InlineData:
    """Return one empty row: Vega-Lite draws a mark without fields once per row."""
    return alt.InlineData(values=[{}])


def fit(*, panel: int, margin: int, fixed: bool = False) -> dict[str, object]:
    """Say how `charts.js` may resize a chart: least panel width, pixels beside a panel, whether it is fixed."""
    return {"panel": panel, "margin": margin, "fixed": fixed}


def padded(values: Sequence[float | int], pad: float = 0.04) -> list[float]:
    """Return an axis domain that holds the finite `values` with a little room."""
    finite = [float(value) for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    room = (high - low) * pad or 0.05
    return [low - room, high + room]


def panels(
    layers: Sequence[alt.Chart],
    data: pd.DataFrame,
    field: str,
    order: Sequence[str],
    *,
    width: int,
    height: int | alt.Step,
    columns: int = 2,
    beside: int = 60,
) -> alt.FacetChart:
    """Lay `layers` over each other in one panel for each value of `field`, in the order given.

    Args:
        layers: charts without data of their own, or with data that every panel shows.
        data: what is split among the panels.
        field: the column that splits it.
        order: its values.
        width: of a panel in pixels.
        height: of a panel in pixels, or for each of its rows.
        columns: most panels side by side.
        beside: pixels between two panels of a row, for the axis of the right one.
    """
    panel = alt.layer(*layers).properties(width=width, height=height)
    facet = alt.Facet(f"{field}:N", sort=list(order))
    chart = panel.facet(facet=facet, data=data, columns=min(columns, len(order)))
    # Every panel keeps its own axis: on a narrow screen they stand below each other.
    chart = chart.resolve_axis(x="independent")
    # Flush: panels stay aligned whatever the width of their axis labels, which lie in the spacing.
    return chart.properties(bounds="flush", spacing=alt.RowColnumber(row=86, column=beside))


def class_regions(size: int) -> list[alt.Chart]:
    """Return the bands of RelIE's classes, rules at the bounds of both axes, and the classes' names."""
    bounds = {
        "absent": (0.0, ABSENT_BELOW),
        "shared": (ABSENT_BELOW, SPECIFIC_ABOVE),
        "specific": (SPECIFIC_ABOVE, 1.0),
    }
    one = one_row()
    bands = [
        alt.Chart(one)
        .mark_rect(color=theme.REGION[name])
        .encode(x=alt.datum(0), x2=alt.datum(1), y=alt.datum(low), y2=alt.datum(high))
        for name, (low, high) in bounds.items()
    ]
    rules = [
        alt.Chart(one).mark_rule(color=theme.FAINT, strokeDash=[3, 3]).encode(**{axis: alt.datum(bound)})
        for axis in ("x", "y")
        for bound in (ABSENT_BELOW, SPECIFIC_ABOVE)
    ]
    above = [
        alt.Chart(one)
        .mark_text(fontSize=10, color=theme.MUTED, baseline="bottom", text=name)
        .encode(x=alt.datum((low + high) / 2), y=alt.value(-4))
        for name, (low, high) in bounds.items()
    ]
    aside = [
        alt.Chart(one)
        .mark_text(fontSize=10, color=theme.MUTED, angle=90, baseline="bottom", text=name)
        .encode(x=alt.value(size + 4), y=alt.datum((low + high) / 2))
        for name, (low, high) in bounds.items()
    ]
    return [*bands, *rules, *above, *aside]
