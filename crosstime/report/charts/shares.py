"""How RelIE is spread: as a histogram at each checkpoint, and as a triangle for three checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import labels, theme
from crosstime.report.charts.panels import ABSENT_BELOW, PICKED, SPECIFIC_ABOVE, fit, one_row, panels, picked
from crosstime.report.columns import checked, feature_name, in_order

BINS = 20
HEIGHT = math.sqrt(3) / 2
"""Of a triangle whose sides are 1."""


def shares_chart(temporal: pd.DataFrame, compared: Sequence[str] | None = None) -> alt.FacetChart:
    """Histogram of RelIE at each checkpoint, the tasks stacked; undefined values are in no bar.

    For two checkpoints that of the earlier one is the mirror image, so only the later is drawn.

    Args:
        temporal: task, feature, revision, relie, relie_low, relie_high, reldec, decoder_norm.
        compared: revisions in order; by default in order of appearance.

    Raises:
        ReportError: when the table lacks a column, or holds no RelIE.

    Examples:
        >>> shares_chart(temporal, ["step64", "main"]).save("relie.svg")
    """
    table = checked(temporal, "temporal")
    order = list(compared) if compared is not None else in_order(table["revision"])
    shown = order[-1:] if len(order) <= 2 else order
    tasks = in_order(table["task"])
    rows = []
    for (task, revision), group in table[table["revision"].isin(shown)].groupby(["task", "revision"], sort=False):
        counts, edges = np.histogram(group["relie"].dropna(), bins=BINS, range=(0.0, 1.0))
        rows += [
            {"task": task, "revision": revision, "low": low, "high": high, "features": int(count)}
            for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
            if count
        ]
    if not rows:
        raise ReportError("no feature of the temporal table has a RelIE")
    axis = alt.Axis(values=[0, ABSENT_BELOW, 0.5, SPECIFIC_ABOVE, 1], format=".1f", grid=False)
    x = alt.X("low:Q", title="RelIE", bin="binned", scale=alt.Scale(domain=[0, 1], nice=False), axis=axis)
    legend = alt.Legend(columns=1) if len(tasks) > 1 else None
    bars = (
        alt.Chart()
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            x=x,
            x2="high:Q",
            y=alt.Y("features:Q", title="features", stack="zero", axis=alt.Axis(tickCount=4, tickMinStep=1)),
            color=alt.Color("task:N", scale=alt.Scale(**theme.colours(tasks)), legend=legend),
            tooltip=["task:N", alt.Tooltip("low:Q", format=".2f"), alt.Tooltip("high:Q", format=".2f"), "features:Q"],
        )
    )
    bounds = [
        alt.Chart(one_row()).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(x=alt.datum(bound))
        for bound in (ABSENT_BELOW, SPECIFIC_ABOVE)
    ]
    width = 280 if len(shown) < 3 else 250
    chart = panels([bars, *bounds], pd.DataFrame(rows), "revision", shown, width=width, height=120, columns=3)
    return chart.properties(usermeta=fit(panel=240, margin=84))


def ternary_chart(
    temporal: pd.DataFrame, compared: Sequence[str] | None = None, *, labelled: int = 12
) -> alt.LayerChart:
    """RelIE at three checkpoints as one point a feature and task in a triangle.

    A feature's shares (r1, r2, r3) sum to 1 and are its weights at the three corners: bottom left, bottom right
    and top, so that x = r2 + r3 / 2 and y = r3 sqrt(3) / 2. Dashed lines are shares of 0.3.

    Args:
        temporal: task, feature, revision, relie, relie_low, relie_high, reldec, decoder_norm.
        compared: the three revisions in order; by default in order of appearance.
        labelled: how many points get a label: those farthest from the middle, where there is room.

    Raises:
        ReportError: when there are not three revisions, a column is missing, or no feature has all three values.

    Examples:
        >>> ternary_chart(temporal, ["step64", "step256", "main"]).save("ternary.svg")
    """
    table = checked(temporal, "temporal")
    order = list(compared) if compared is not None else in_order(table["revision"])
    if len(order) != 3:
        raise ReportError(f"a triangle of RelIE needs three checkpoints, not {len(order)}: {', '.join(order)}")
    tasks = in_order(table["task"])
    wide = table.pivot_table(index=["task", "feature"], columns="revision", values="relie", sort=False)
    if set(order) - set(wide.columns):
        raise ReportError("no feature of the temporal table has a RelIE at all three checkpoints")
    wide = wide[order].dropna()
    if wide.empty:
        raise ReportError("no feature of the temporal table has a RelIE at all three checkpoints")
    points = wide.set_axis(["r1", "r2", "r3"], axis=1).reset_index()
    points["x"], points["y"] = points["r2"] + points["r3"] / 2, points["r3"] * HEIGHT
    points["name"] = points["feature"].map(feature_name)

    size = 380
    tall = size * HEIGHT
    far = (points[["r1", "r2", "r3"]] - 1 / 3).abs().max(axis=1).sort_values(ascending=False, kind="stable").index
    ranked = points.loc[far]
    pixels = [(x * size, tall - y * size) for x, y in zip(ranked["x"].tolist(), ranked["y"].tolist(), strict=True)]
    # Many of the farthest are crowded in a corner, where no label has room: the next ones are labelled instead.
    places = labels.beside(pixels, ranked["name"].tolist(), (size, tall))
    points["label_x"], points["label_y"], room = math.nan, math.nan, labelled
    for index, place in zip(far, places, strict=True):
        if place is not None and room:
            room -= 1
            points.loc[index, ["label_x", "label_y"]] = place[0] / size, (tall - place[1]) / size

    def across(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=alt.Scale(domain=[0, 1], nice=False), axis=None)

    def up(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=alt.Scale(domain=[0, HEIGHT], nice=False), axis=None)

    def segments(lines: Sequence[tuple[tuple[float, float], tuple[float, float]]]) -> alt.Chart:
        frame = pd.DataFrame([(*start, *end) for start, end in lines], columns=["x", "y", "x2", "y2"])
        return alt.Chart(frame).mark_rule().encode(x=across("x"), y=up("y"), x2="x2:Q", y2="y2:Q")

    corners = [(0.0, 0.0), (1.0, 0.0), (0.5, HEIGHT)]
    sides = segments([(corners[i], corners[(i + 1) % 3]) for i in range(3)]).mark_rule(color=theme.MUTED)
    bounds = segments([_level(corner, ABSENT_BELOW) for corner in range(3)])
    bounds = bounds.mark_rule(color=theme.FAINT, strokeDash=[4, 3])
    named = pd.DataFrame({"x": [c[0] for c in corners], "y": [c[1] for c in corners], "name": order})
    names = [
        alt.Chart(named.iloc[[i]]).mark_text(fontWeight="bold", align=align, dy=dy).encode(
            x=across("x"), y=up("y"), text="name:N"
        )
        for i, (align, dy) in enumerate((("left", 16), ("right", 16), ("center", -12)))
    ]  # fmt: skip
    # The name of the top corner stands between the legend and the triangle.
    legend = alt.Legend(columns=1, offset=26) if len(tasks) > 1 else None
    colour = alt.Color("task:N", scale=alt.Scale(**theme.colours(tasks)), legend=legend)
    shape = alt.Shape("task:N", scale=alt.Scale(**theme.shapes(tasks)), legend=legend)
    tooltip = [alt.Tooltip("name:N", title="feature"), alt.Tooltip("task:N")]
    tooltip += [
        alt.Tooltip(f"r{i + 1}:Q", format=".2f", title=f"RelIE at {revision}") for i, revision in enumerate(order)
    ]
    base = alt.Chart(points)
    layers = [
        bounds,
        sides,
        *names,
        base.mark_point(filled=True, opacity=0.85, size=42, cursor="pointer").encode(
            x=across("x"), y=up("y"), color=colour, shape=shape, tooltip=tooltip
        ),
        picked(base).encode(x=across("x"), y=up("y")),
        base.transform_filter("datum.label_x != null")
        .mark_text(fontSize=10.5)
        .encode(x=across("label_x"), y=up("label_y"), text="name:N"),
    ]
    chart = alt.layer(*layers).properties(width=size, height=round(tall), params=[PICKED])
    return chart.properties(usermeta=fit(panel=size, margin=24, fixed=True))


def _level(corner: int, share: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Both ends of the line on which the share of one corner is `share`."""
    ends = []
    for other in {0, 1, 2} - {corner}:
        weights = [0.0, 0.0, 0.0]
        weights[corner], weights[other] = share, 1 - share
        ends.append((weights[1] + weights[2] / 2, weights[2] * HEIGHT))
    return ends[0], ends[1]
