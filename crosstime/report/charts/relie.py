"""RelIE, a checkpoint's share of a feature's effects: against RelDec, and its distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import labels, theme
from crosstime.report.charts.panels import (
    ABSENT_BELOW,
    PICKED,
    SPECIFIC_ABOVE,
    checkpoint_order,
    class_axis,
    class_regions,
    fit,
    group_encodings,
    interval_column,
    one_row,
    panels,
    ring_picked,
)
from crosstime.report.check_table import check_table, require_rows
from crosstime.report.columns import distinct, feature_name

BINS = 20
"""Bins of the histogram of RelIE."""


def relie_chart(temporal: pd.DataFrame, compared: Sequence[str] | None = None, *, labelled: int = 10) -> alt.FacetChart:
    """RelIE against RelDec of each feature, on a background of the three classes.

    With two checkpoints, both values of the earlier one are one minus those of the later, so only the later one is
    drawn; with more, each has its panel. A point off the diagonal is a feature whose decoder norm does not tell when
    it matters. Features for which either value is undefined are omitted.

    Args:
        temporal: task, feature, revision, relie, relie_low, relie_high, reldec, decoder_norm.
        compared: revisions in order; by default in order of first appearance.
        labelled: number of points per panel to label: those farthest from the diagonal, where there is space.

    Raises:
        ReportError: when the table is empty or lacks a column, or no feature has both values.

    Examples:
        >>> relie_chart(temporal, ["step64", "main"])  # doctest: +SKIP
    """
    # Keep the features that have both values
    table = require_rows(temporal, "temporal")
    order, tasks = checkpoint_order(table, compared), distinct(table["task"])
    revisions = informative(order)
    table = table[table["revision"].isin(revisions)].dropna(subset=["relie", "reldec"]).copy()
    if table.empty:
        raise ReportError("no feature of the temporal table has both a RelIE and a RelDec")
    table["name"] = table["feature"].map(feature_name)
    table["interval"] = interval_column(table, "relie_low", "relie_high", decimals=2)

    # Label the points about which RelIE and RelDec disagree most
    size = _panel_width(revisions)
    table["label_x"], table["label_y"] = math.nan, math.nan
    for revision in revisions:
        panel = table[table["revision"] == revision]
        panel = panel.loc[(panel["relie"] - panel["reldec"]).abs().sort_values(ascending=False).index]
        pixels = [(x * size, (1 - y) * size) for x, y in zip(panel["reldec"], panel["relie"], strict=True)]
        centres = labels.place_beside(pixels, panel["name"].tolist()[:labelled], (size, size))
        for index, centre in zip(panel.index, centres, strict=False):
            if centre is not None:
                table.loc[index, ["label_x", "label_y"]] = centre[0] / size, 1 - centre[1] / size

    # Encode the columns
    x, y = _unit_x("reldec", "RelDec"), _unit_y("relie", "RelIE")
    colour, shape = group_encodings("task", tasks, _task_legend(tasks))
    tooltip = [
        alt.Tooltip("name:N", title="feature"),
        alt.Tooltip("task:N"),
        alt.Tooltip("relie:Q", format=".2f", title="RelIE"),
        alt.Tooltip("interval:N", title="RelIE interval"),
        alt.Tooltip("reldec:Q", format=".2f", title="RelDec"),
    ]

    # Draw intervals, points and labels on the regions of the classes
    base = alt.Chart()
    layers = [
        *class_regions(size),
        base.mark_rule(opacity=0.35).encode(x=x, y=_unit_y("relie_low", "RelIE"), y2="relie_high:Q", color=colour),
        base.mark_point(filled=True, opacity=0.9, size=42, cursor="pointer").encode(
            x=x, y=y, color=colour, shape=shape, tooltip=tooltip
        ),
        ring_picked(base).encode(x=x, y=y),
        base.transform_filter("datum.label_x != null")
        .mark_text(fontSize=10.5)
        .encode(x=_unit_x("label_x", "RelDec"), y=_unit_y("label_y", "RelIE"), text="name:N"),
    ]
    chart = panels(layers, table, "revision", revisions, width=size, height=size, columns=3)
    return chart.properties(usermeta=fit(panel=size, margin=84, fixed=True), params=[PICKED])


def relie_histogram(temporal: pd.DataFrame, compared: Sequence[str] | None = None) -> alt.FacetChart:
    """Histogram of RelIE at each checkpoint, the tasks stacked; undefined values are not counted.

    With two checkpoints the histogram of the earlier one is the mirror image, so only the later one is drawn.

    Args:
        temporal: task, feature, revision, relie, relie_low, relie_high, reldec, decoder_norm.
        compared: revisions in order; by default in order of first appearance.

    Raises:
        ReportError: when the table lacks a column, or no feature has a RelIE.

    Examples:
        >>> relie_histogram(temporal, ["step64", "main"]).save("relie.svg")  # doctest: +SKIP
    """
    # Count the features of each task in each bin
    table = check_table(temporal, "temporal")
    revisions, tasks = informative(checkpoint_order(table, compared)), distinct(table["task"])
    bins: list[dict[str, object]] = []
    for (task, revision), group in table[table["revision"].isin(revisions)].groupby(["task", "revision"], sort=False):
        counts, edges = np.histogram(group["relie"].dropna(), bins=BINS, range=(0.0, 1.0))
        bins += [
            {"task": task, "revision": revision, "low": low, "high": high, "features": int(count)}
            for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
            if count
        ]
    if not bins:
        raise ReportError("no feature of the temporal table has a RelIE")

    # Draw stacked bars
    x_scale = alt.Scale(domain=[0, 1], nice=False)
    bars = (
        alt.Chart()
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X("low:Q", title="RelIE", bin="binned", scale=x_scale, axis=class_axis()),
            x2="high:Q",
            y=alt.Y("features:Q", title="features", stack="zero", axis=alt.Axis(tickCount=4, tickMinStep=1)),
            color=alt.Color("task:N", scale=theme.colour_scale(tasks), legend=_task_legend(tasks)),
            tooltip=["task:N", alt.Tooltip("low:Q", format=".2f"), alt.Tooltip("high:Q", format=".2f"), "features:Q"],
        )
    )

    # Draw dashed rules at the bounds of the classes
    bounds = [
        alt.Chart(one_row()).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(x=alt.datum(bound))
        for bound in (ABSENT_BELOW, SPECIFIC_ABOVE)
    ]

    # Lay out one panel per checkpoint
    width = _panel_width(revisions)
    chart = panels([bars, *bounds], pd.DataFrame(bins), "revision", revisions, width=width, height=120, columns=3)
    return chart.properties(usermeta=fit(panel=240, margin=84))


def informative(order: Sequence[str]) -> list[str]:
    """Return the checkpoints that need a panel: of two, only the later, since their shares add up to one."""
    return list(order[-1:] if len(order) <= 2 else order)


def _panel_width(revisions: Sequence[str]) -> int:
    return 280 if len(revisions) < 3 else 250


def _task_legend(tasks: Sequence[str]) -> alt.Legend | None:
    return alt.Legend(columns=1) if len(tasks) > 1 else None


def _unit_x(field: str, title: str) -> alt.X:
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(domain=[0, 1], nice=False), axis=class_axis())


def _unit_y(field: str, title: str) -> alt.Y:
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(domain=[0, 1], nice=False), axis=class_axis())
