"""Accuracy of the checkpoints against training tokens."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.report.charts import labels, theme
from crosstime.report.charts.effect_lines import LABEL
from crosstime.report.charts.panels import fit, group_encodings, interval_column, one_row, overlay, padded
from crosstime.report.charts.token_axis import NARROW, TokenAxis
from crosstime.report.check_table import require_rows
from crosstime.report.columns import distinct

CHANCE = 0.5
"""Accuracy of guessing on minimal pairs."""


def accuracy_chart(accuracy: pd.DataFrame, compared: Sequence[str] = ()) -> alt.LayerChart:
    """Accuracy of every checkpoint of a suite against the tokens it was trained on, one line per task.

    Args:
        accuracy: revision, step, tokens, task, n, accuracy, low, high, logit_difference.
        compared: revisions to mark with a vertical rule and their name.

    Raises:
        ReportError: when the table is empty or lacks a column.

    Examples:
        >>> accuracy_chart(accuracy, compared=["step64", "main"]).save("accuracy.svg")  # doctest: +SKIP
    """
    # Prepare the rows
    table = require_rows(accuracy, "accuracy").sort_values("tokens", kind="stable")
    tasks = distinct(table["task"])
    table["compared"] = table["revision"].isin(list(compared))
    table["interval"] = interval_column(table)

    # Stack the names of the compared checkpoints above the plot where they would overlap
    axis = TokenAxis(table["tokens"].tolist())
    marks = table[table["compared"]].drop_duplicates("revision")[["revision", "tokens"]]
    marks["row"] = labels.stagger(
        [axis.position(tokens) * NARROW for tokens in marks["tokens"]],
        [len(name) * labels.LETTER for name in marks["revision"]],
    )
    n_rows = int(marks["row"].max()) + 1 if len(marks) else 0

    # Encode the columns
    x = axis.encoding()
    domain = padded([*table["accuracy"], *table["low"], *table["high"], CHANCE])
    y_scale = alt.Scale(domain=domain, nice=False, zero=False)
    y = alt.Y("accuracy:Q", title="accuracy", scale=y_scale)
    chance = alt.YDatum(CHANCE, scale=y_scale)
    legend = alt.Legend(offset=8 + n_rows * LABEL) if len(tasks) > 1 else None
    colour, shape = group_encodings("task", tasks, legend)
    tooltip = [
        alt.Tooltip("task:N"),
        alt.Tooltip("revision:N", title="checkpoint"),
        alt.Tooltip("tokens:Q", format=".3~s", title="training tokens"),
        alt.Tooltip("accuracy:Q", format=".3f"),
        alt.Tooltip("interval:N"),
        alt.Tooltip("n:Q", title="pairs"),
    ]

    # Draw the level of chance, the compared checkpoints, and the lines of the tasks over their bands
    base = alt.Chart(table)
    single = alt.Chart(one_row())
    size = alt.condition("datum.compared", alt.value(80), alt.value(28))
    layers = [
        single.mark_rule(color=theme.FAINT, strokeDash=[4, 3]).encode(y=chance),
        single.mark_text(align="left", dx=6, color=theme.MUTED, text="chance").encode(x=alt.value("width"), y=chance),
        alt.Chart(marks).mark_rule(color=theme.MUTED, strokeDash=[1, 3]).encode(x=x),
        base.mark_area(opacity=0.14).encode(x=x, y=alt.Y("low:Q", scale=y_scale), y2="high:Q", color=colour),
        base.mark_line().encode(x=x, y=y, color=colour),
        base.mark_point(filled=True, opacity=1).encode(x=x, y=y, color=colour, shape=shape, size=size, tooltip=tooltip),
    ]
    layers += [
        alt.Chart(marks[marks["row"] == row])
        .mark_text(color=theme.INK, baseline="bottom")
        .encode(x=x, y=alt.value(-4 - row * LABEL), text="revision:N")
        for row in range(n_rows)
    ]
    return overlay(layers).properties(width=800, height=300, usermeta=fit(panel=240, margin=104))
