"""Indirect effects of the features at each checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.report.charts import theme
from crosstime.report.charts.effect_lines import LABELLED, effect_lines
from crosstime.report.charts.panels import PICKED, checkpoint_axis, checkpoint_order, fit, one_row, panels, ring_picked
from crosstime.report.check_table import require_rows
from crosstime.report.columns import distinct

HEIGHT = 320
"""Height of a panel in pixels."""


def effects_chart(
    effects: pd.DataFrame,
    compared: Sequence[str] | None = None,
    *,
    labelled: int = LABELLED,
    ordered: bool = True,
) -> alt.FacetChart:
    """Indirect effect of each feature across the compared checkpoints, one panel per task.

    The features with the largest |IE| are labelled at the last checkpoint. As many of them as the palette has colours
    are coloured, with the same colour in all panels, and drawn with their intervals; the other features are grey. The
    error term is dashed. If it is more than three times as large as every feature it would flatten them, so it is
    omitted and the title gives its largest value.

    Args:
        effects: task, feature (-1 is the error term), revision, ie, low, high.
        compared: revisions in order; by default in order of first appearance.
        labelled: number of features per task to label.
        ordered: whether the checkpoints are points of one training; models side by side have no order, and their
            effects are points that no lines join, with the intervals as rules, and labels at every model.

    Raises:
        ReportError: when the table is empty or lacks a column.

    Examples:
        >>> effects_chart(effects, ["step64", "step256", "main"])  # doctest: +SKIP
    """
    # Choose colours and labels
    table = require_rows(effects, "effects")
    order = checkpoint_order(table, compared)
    lines = effect_lines(table, order, labelled=labelled, height=HEIGHT, ordered=ordered)
    tasks = distinct(lines.table["task"])

    # Encode the columns
    x = checkpoint_axis(order)
    y_scale = alt.Scale(domain=lines.domain, nice=False)
    y = alt.Y("ie:Q", title="indirect effect", scale=y_scale)
    label_y = alt.Y("label_y:Q", scale=y_scale)
    colour, ink = alt.Color("colour:N", scale=None), alt.Color("ink:N", scale=None)
    tooltip = [
        alt.Tooltip("name:N", title="feature"),
        alt.Tooltip("revision:N", title="checkpoint"),
        alt.Tooltip("ie:Q", format=".4~f", title="IE"),
        alt.Tooltip("interval:N"),
    ]

    # Split the rows by how they are drawn
    base = alt.Chart()
    main = base.transform_filter("datum.kind == 'main'")
    context = base.transform_filter("datum.kind == 'context'")
    error = base.transform_filter("datum.kind == 'error'")
    emphasised = base.transform_filter("datum.kind != 'context'")
    labelled_ends = base.transform_filter("datum.label != ''")

    # Draw the grey features below the coloured ones
    encoding = {"x": x, "y": y, "color": colour, "detail": "name:N"}
    layers = [
        alt.Chart(one_row()).mark_rule(color=theme.FAINT).encode(y=alt.datum(0)),
        (main.mark_area(opacity=0.1) if ordered else main.mark_rule(opacity=0.35)).encode(
            x=x, y=alt.Y("low:Q", scale=y_scale), y2="high:Q", color=colour, detail="name:N"
        ),
        context.mark_point(filled=True, opacity=1, size=12, cursor="pointer").encode(
            x=x, y=y, color=colour, tooltip=tooltip
        ),
        emphasised.mark_point(filled=True, opacity=1, size=34, cursor="pointer").encode(
            x=x, y=y, color=colour, tooltip=tooltip
        ),
        ring_picked(base).encode(x=x, y=y),
    ]

    # Join the points of each feature below the points, where the checkpoints have an order
    if ordered:
        layers[2:2] = [context.mark_line(strokeWidth=1, cursor="pointer").encode(**encoding)]
        layers[4:4] = [
            error.mark_line(strokeDash=[5, 3]).encode(**encoding),
            main.mark_line(cursor="pointer").encode(**encoding),
        ]

    # Label the ends of the lines
    layers += [
        labelled_ends.mark_rule(xOffset=5, x2Offset=13, strokeWidth=0.8).encode(
            x=x, x2="revision:N", y=y, y2="label_y:Q", color=ink
        ),
        # A white outline below the letters, so that the zero line does not strike them through
        labelled_ends.mark_text(align="left", dx=15, stroke="white", strokeWidth=4).encode(
            x=x, y=label_y, text="label:N", color=ink
        ),
        labelled_ends.mark_text(align="left", dx=15).encode(x=x, y=label_y, text="label:N", color=ink),
    ]

    # Lay out one panel per task
    width = 800 if len(tasks) == 1 else 370
    chart = panels(layers, lines.table, "task", tasks, width=width, height=HEIGHT, gap=96)
    chart = chart.properties(usermeta=fit(panel=240, margin=116), params=[PICKED])
    return chart.properties(title=alt.TitleParams(lines.note)) if lines.note else chart
