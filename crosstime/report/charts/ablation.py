"""What ablating features does to accuracy."""

from __future__ import annotations

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.panels import (
    PICKED,
    fit,
    group_encodings,
    interval_column,
    one_row,
    padded,
    panels,
    ring_picked,
)
from crosstime.report.check_table import require_rows
from crosstime.report.columns import distinct, feature_name
from crosstime.report.rows import rows

LOW, HIGH = "accuracy_change_low", "accuracy_change_high"


def ablation_chart(ablation: pd.DataFrame, *, most: int = 20) -> alt.FacetChart:
    """Change in accuracy at each checkpoint when features are ablated: sets and random controls first.

    Args:
        ablation: task, features, kind ("set", "random" or "single"), revision, accuracy, accuracy_change,
            logit_difference, logit_difference_change; with the columns accuracy_change_low and accuracy_change_high,
            bars show intervals.
        most: largest number of rows per task; single features with the largest |change| take precedence.

    Raises:
        ReportError: when the table is empty or lacks a column.

    Examples:
        >>> ablation_chart(ablation)  # doctest: +SKIP
    """
    # Name and rank the rows of each task
    table = require_rows(ablation, "ablation").dropna(subset="accuracy_change")
    if table.empty:
        raise ReportError("the ablation table has no change in accuracy to draw")
    tasks, revisions = distinct(table["task"]), distinct(table["revision"])
    table["row"] = [ablated_name(row.text("features"), row.text("kind")) for row in rows(table)]
    is_single = (table["kind"] == "single") & table["features"].str.isdecimal()
    table["feature"] = pd.to_numeric(table["features"].where(is_single))
    table["size"] = table["accuracy_change"].abs()
    table["rank"] = _ranks(table, most)
    table = table.dropna(subset="rank")
    table["interval"] = interval_column(table, LOW, HIGH)

    # Encode the columns
    y = alt.Y(
        "row:N",
        title=None,
        sort=alt.EncodingSortField("rank", op="min"),
        axis=alt.Axis(grid=True, ticks=False, domain=False, labelColor=theme.INK),
    )
    changes = [value for name in ("accuracy_change", LOW, HIGH) for value in table[name]]
    x_scale = alt.Scale(domain=padded([*changes, 0.0]), nice=False)
    x_axis = alt.Axis(format=".2~f", tickCount=5)
    x = alt.X("accuracy_change:Q", title="change in accuracy", scale=x_scale, axis=x_axis)
    colour, shape = group_encodings("revision", revisions, alt.Legend(columns=min(4, len(revisions))))
    tooltip = [
        alt.Tooltip("row:N", title="ablated"),
        alt.Tooltip("revision:N", title="checkpoint"),
        alt.Tooltip("accuracy:Q", format=".3f"),
        alt.Tooltip("accuracy_change:Q", format="+.3f", title="change"),
        alt.Tooltip("interval:N"),
    ]

    # Draw intervals and points next to the rule of no change
    base = alt.Chart()
    layers = [
        alt.Chart(one_row()).mark_rule(color=theme.MUTED).encode(x=alt.datum(0)),
        base.transform_filter(f"isValid(datum.{LOW})")
        .mark_rule(opacity=0.5, strokeWidth=1.5)
        .encode(x=alt.X(f"{LOW}:Q", scale=x_scale), x2=f"{HIGH}:Q", y=y, color=colour),
        base.mark_point(filled=True, opacity=0.85, size=55, cursor="pointer").encode(
            x=x, y=y, color=colour, shape=shape, tooltip=tooltip
        ),
        ring_picked(base).encode(x=x, y=y),
    ]
    width = 700 if len(tasks) == 1 else 320
    chart = panels(layers, table, "task", tasks, width=width, height=alt.Step(18), gap=110)
    chart = chart.resolve_scale(y="independent")
    return chart.properties(usermeta=fit(panel=200, margin=112), params=[PICKED])


def ablated_name(features: str, kind: str) -> str:
    """Return the name of what was ablated: a feature, a named set, or a random control of a set.

    Examples:
        >>> ablated_name("123", "single"), ablated_name("top-10", "random")
        ('f123', 'random top-10')
    """
    if kind == "single" and features.isdecimal():
        return feature_name(int(features))
    return f"random {features}" if kind == "random" and "random" not in features else features


def _ranks(table: pd.DataFrame, most: int) -> list[int | None]:
    """Rank the rows within their task: sets before single features, then by the largest change; None beyond `most`."""
    ranks: dict[tuple[str, str], int] = {}
    for task, group in table.groupby("task", sort=False):
        group = group.assign(singles=group["kind"] == "single")
        named = group.groupby("row", sort=False).agg(singles=("singles", "first"), size=("size", "max"))
        ordered = named.sort_values(["singles", "size"], ascending=[True, False], kind="stable")
        ranks |= {(str(task), str(name)): rank for rank, name in enumerate(ordered.index[:most])}
    return [ranks.get(key) for key in zip(table["task"], table["row"], strict=True)]
