"""RelIE at three checkpoints at once, as points in a triangle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import labels, theme
from crosstime.report.charts.panels import (
    ABSENT_BELOW,
    PICKED,
    checkpoint_order,
    fit,
    group_encodings,
    overlay,
    ring_picked,
)
from crosstime.report.check_table import check_table
from crosstime.report.columns import distinct, feature_name

Point = tuple[float, float]

HEIGHT = math.sqrt(3) / 2
"""Height of a triangle whose sides have length 1."""

CORNERS: tuple[Point, Point, Point] = ((0.0, 0.0), (1.0, 0.0), (0.5, HEIGHT))
"""Corners of the first, second and third checkpoint: bottom left, bottom right and top."""

WIDTH = 380
"""Width of the triangle in pixels."""


def ternary_chart(
    temporal: pd.DataFrame, compared: Sequence[str] | None = None, *, labelled: int = 12
) -> alt.LayerChart:
    """RelIE at three checkpoints, as one point per feature and task in a triangle.

    A feature's shares (r1, r2, r3) add up to 1. They are its weights at the three corners (bottom left, bottom right
    and top), so that x = r2 + r3 / 2 and y = r3 sqrt(3) / 2. Dashed lines mark shares of 0.3.

    Args:
        temporal: task, feature, revision, relie, relie_low, relie_high, reldec, decoder_norm.
        compared: the three revisions in order; by default in order of first appearance.
        labelled: number of points to label: those farthest from the middle, where there is space.

    Raises:
        ReportError: when there are not three revisions, a column is missing, or no feature has all three values.

    Examples:
        >>> ternary_chart(temporal, ["step64", "step256", "main"]).save("ternary.svg")  # doctest: +SKIP
    """
    # Locate the features in the triangle
    table = check_table(temporal, "temporal")
    order = checkpoint_order(table, compared)
    if len(order) != 3:
        raise ReportError(f"a triangle of RelIE needs three checkpoints, not {len(order)}: {', '.join(order)}")
    points = _label(_locate(table, order), labelled)

    # Encode the columns
    tasks = distinct(table["task"])
    x, y = _across("x"), _up("y")
    # The name of the top corner is between the legend and the triangle
    legend = alt.Legend(columns=1, offset=26) if len(tasks) > 1 else None
    colour, shape = group_encodings("task", tasks, legend)
    tooltip = [alt.Tooltip("name:N", title="feature"), alt.Tooltip("task:N")]
    tooltip += [
        alt.Tooltip(f"r{i + 1}:Q", format=".2f", title=f"RelIE at {revision}") for i, revision in enumerate(order)
    ]

    # Draw the points and their labels on the frame
    base = alt.Chart(points)
    layers = [
        *_frame(order),
        base.mark_point(filled=True, opacity=0.85, size=42, cursor="pointer").encode(
            x=x, y=y, color=colour, shape=shape, tooltip=tooltip
        ),
        ring_picked(base).encode(x=x, y=y),
        base.transform_filter("datum.label_x != null")
        .mark_text(fontSize=10.5)
        .encode(x=_across("label_x"), y=_up("label_y"), text="name:N"),
    ]
    chart = overlay(layers).properties(width=WIDTH, height=round(WIDTH * HEIGHT), params=[PICKED])
    return chart.properties(usermeta=fit(panel=WIDTH, margin=24, fixed=True))


def _locate(table: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Return task, feature, r1, r2, r3, x, y and name of the features that have a RelIE at all three checkpoints."""
    shares = table.pivot_table(index=["task", "feature"], columns="revision", values="relie", sort=False)
    missing = set(order) - set(shares.columns)
    shares = shares.iloc[:0] if missing else shares[list(order)].dropna()
    if shares.empty:
        raise ReportError("no feature of the temporal table has a RelIE at all three checkpoints")

    points = shares.set_axis(["r1", "r2", "r3"], axis=1).reset_index()
    points["x"], points["y"] = points["r2"] + points["r3"] / 2, points["r3"] * HEIGHT
    points["name"] = points["feature"].map(feature_name)
    return points


def _label(points: pd.DataFrame, labelled: int) -> pd.DataFrame:
    """Add label_x and label_y for the `labelled` points farthest from the middle that have space for a label."""
    height = WIDTH * HEIGHT
    distance = (points[["r1", "r2", "r3"]] - 1 / 3).abs().max(axis=1)
    ranked = points.loc[distance.sort_values(ascending=False, kind="stable").index]
    pixels = [(x * WIDTH, height - y * WIDTH) for x, y in zip(ranked["x"].tolist(), ranked["y"].tolist(), strict=True)]

    # Many of the farthest points crowd in a corner without space, so all points are candidates
    centres = labels.place_beside(pixels, ranked["name"].tolist(), (WIDTH, height))
    points["label_x"], points["label_y"] = math.nan, math.nan
    remaining = labelled
    for index, centre in zip(ranked.index, centres, strict=True):
        if centre is not None and remaining:
            remaining -= 1
            points.loc[index, ["label_x", "label_y"]] = centre[0] / WIDTH, (height - centre[1]) / WIDTH
    return points


def _frame(order: Sequence[str]) -> list[alt.Chart]:
    """Return the layers below the points: the bounds of the class "absent", the sides, and the names of the corners."""
    bounds = _segments([_level(corner, ABSENT_BELOW) for corner in range(3)])
    sides = _segments([(CORNERS[i], CORNERS[(i + 1) % 3]) for i in range(3)])

    corners = pd.DataFrame({"x": [x for x, _ in CORNERS], "y": [y for _, y in CORNERS], "name": list(order)})
    left, right, top = (
        alt.Chart(corners.iloc[[i]]).encode(x=_across("x"), y=_up("y"), text="name:N") for i in range(3)
    )
    return [
        bounds.mark_rule(color=theme.FAINT, strokeDash=[4, 3]),
        sides.mark_rule(color=theme.MUTED),
        left.mark_text(fontWeight="bold", align="left", dy=16),
        right.mark_text(fontWeight="bold", align="right", dy=16),
        top.mark_text(fontWeight="bold", align="center", dy=-12),
    ]


def _level(corner: int, share: float) -> tuple[Point, Point]:
    """Return both ends of the line on which a corner has the given share."""
    ends: list[Point] = []
    for neighbour in {0, 1, 2} - {corner}:
        weights = [0.0, 0.0, 0.0]
        weights[corner], weights[neighbour] = share, 1 - share
        ends.append((weights[1] + weights[2] / 2, weights[2] * HEIGHT))
    return ends[0], ends[1]


def _segments(lines: Sequence[tuple[Point, Point]]) -> alt.Chart:
    """Return a chart of line segments that lacks only its mark."""
    ends = pd.DataFrame([(*start, *end) for start, end in lines], columns=["x", "y", "x2", "y2"])
    return alt.Chart(ends).encode(x=_across("x"), y=_up("y"), x2="x2:Q", y2="y2:Q")


def _across(field: str) -> alt.X:
    return alt.X(f"{field}:Q", scale=alt.Scale(domain=[0, 1], nice=False), axis=None)


def _up(field: str) -> alt.Y:
    return alt.Y(f"{field}:Q", scale=alt.Scale(domain=[0, HEIGHT], nice=False), axis=None)
