"""Accuracy of models side by side."""

from __future__ import annotations

import altair as alt
import pandas as pd

from crosstime.report.charts import theme
from crosstime.report.charts.accuracy import CHANCE
from crosstime.report.charts.panels import (
    fit,
    group_encodings,
    interval_column,
    one_row,
    overlay,
    padded,
)
from crosstime.report.check_table import require_rows
from crosstime.report.columns import distinct


def accuracy_of_models_chart(accuracy: pd.DataFrame) -> alt.LayerChart:
    """Accuracy of every model with its interval, a colour for each task; the models are in the order of the table.

    Args:
        accuracy: revision, task, n, accuracy, low, high.

    Raises:
        ReportError: when the table is empty or lacks a column.

    Examples:
        >>> accuracy_of_models_chart(accuracy).save("accuracy.svg")  # doctest: +SKIP
    """
    # Prepare the rows
    table = require_rows(accuracy, "accuracy")
    models, tasks = distinct(table["revision"]), distinct(table["task"])
    table["interval"] = interval_column(table)

    # Encode the columns; the tasks of a model stand beside one another
    domain = padded([*table["accuracy"], *table["low"], *table["high"], CHANCE])
    y_scale = alt.Scale(domain=domain, nice=False, zero=False)
    x = alt.X("revision:N", title="model", sort=models, scale=alt.Scale(type="band", padding=0.4)).axis(labelAngle=0)
    beside = alt.XOffset("task:N", sort=tasks, scale=alt.Scale(type="point", padding=0.5))
    colour, shape = group_encodings("task", tasks, alt.Legend() if len(tasks) > 1 else None)
    tooltip = [
        alt.Tooltip("task:N"),
        alt.Tooltip("revision:N", title="model"),
        alt.Tooltip("accuracy:Q", format=".3f"),
        alt.Tooltip("interval:N"),
        alt.Tooltip("n:Q", title="pairs"),
    ]

    # Draw the level of chance, and a point with its interval for each model and task
    base, single = alt.Chart(table), alt.Chart(one_row())
    low, accuracy_axis = alt.Y("low:Q", scale=y_scale), alt.Y("accuracy:Q", title="accuracy", scale=y_scale)
    chance = alt.YDatum(CHANCE, scale=y_scale)
    layers = [
        single.mark_rule(color=theme.FAINT, strokeDash=[4, 3]).encode(y=chance),
        single.mark_text(align="left", dx=6, color=theme.MUTED, text="chance").encode(x=alt.value("width"), y=chance),
        base.mark_rule().encode(x=x, xOffset=beside, y=low, y2="high:Q", color=colour),
        base.mark_point(filled=True, opacity=1, size=80).encode(
            x=x, xOffset=beside, y=accuracy_axis, color=colour, shape=shape, tooltip=tooltip
        ),
    ]
    return overlay(layers).properties(width=560, height=300, usermeta=fit(panel=240, margin=104))
