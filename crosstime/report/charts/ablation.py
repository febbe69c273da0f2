"""Charts of ablations: what is lost without features, and how much of a task a few of them keep."""

from __future__ import annotations

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.panels import PICKED, fit, one_row, padded, panels, picked
from crosstime.report.columns import TOP, checked, feature_name, filled, in_order
from crosstime.report.numbers import interval


def ablation_chart(ablation: pd.DataFrame, *, most: int = 20) -> alt.FacetChart:
    """What ablating features does to accuracy at each checkpoint: sets and their random baseline first.

    Args:
        ablation: task, features, kind ("set", "random" or "single"), revision, accuracy, accuracy_change,
            logit_difference, logit_difference_change; with the columns accuracy_change_low and accuracy_change_high,
            bars are intervals.
        most: how many rows of a task are drawn; single features with the largest |change| come first.

    Raises:
        ReportError: when the table is empty or lacks a column.

    Examples:
        >>> ablation_chart(ablation)
    """
    table = filled(ablation, "ablation").dropna(subset="accuracy_change")
    if table.empty:
        raise ReportError("the ablation table has no change in accuracy to draw")
    tasks, revisions = in_order(table["task"]), in_order(table["revision"])
    table["row"] = [ablated_name(row.features, row.kind) for row in table.itertuples()]
    alone = table["features"].where((table["kind"] == "single") & table["features"].str.isdecimal())
    table["feature"] = pd.to_numeric(alone)
    table["size"] = table["accuracy_change"].abs()
    ranks: dict[tuple[str, str], int] = {}
    for task, rows in table.groupby("task", sort=False):
        rows = rows.assign(singles=rows["kind"] == "single")
        grouped = rows.groupby("row", sort=False).agg(singles=("singles", "first"), size=("size", "max"))
        ordered = grouped.sort_values(["singles", "size"], ascending=[True, False], kind="stable")
        ranks |= {(str(task), str(name)): rank for rank, name in enumerate(ordered.index[:most])}
    table["rank"] = [ranks.get(key) for key in zip(table["task"], table["row"], strict=True)]
    table = table.dropna(subset="rank")

    y = alt.Y(
        "row:N",
        title=None,
        sort=alt.EncodingSortField("rank", op="min"),
        axis=alt.Axis(grid=True, ticks=False, domain=False, labelColor=theme.INK),
    )
    ends = ["accuracy_change_low", "accuracy_change_high"]
    table["interval"] = [interval(low, high) for low, high in zip(*(table[end] for end in ends), strict=True)]
    spread = [value for name in ("accuracy_change", *ends) for value in table[name]]
    x_scale = alt.Scale(domain=padded([*spread, 0.0]), nice=False)
    x = alt.X(
        "accuracy_change:Q",
        title="change in accuracy",
        scale=x_scale,
        axis=alt.Axis(format=".2~f", tickCount=5),
    )
    legend = alt.Legend(columns=min(4, len(revisions)))
    colour = alt.Color("revision:N", scale=alt.Scale(**theme.colours(revisions)), legend=legend)
    base = alt.Chart()
    layers = [
        alt.Chart(one_row()).mark_rule(color=theme.MUTED).encode(x=alt.datum(0)),
        base.transform_filter("isValid(datum.accuracy_change_low)")
        .mark_rule(opacity=0.5, strokeWidth=1.5)
        .encode(x=alt.X("accuracy_change_low:Q", scale=x_scale), x2="accuracy_change_high:Q", y=y, color=colour),
        base.mark_point(filled=True, opacity=0.85, size=55, cursor="pointer").encode(
            x=x,
            y=y,
            color=colour,
            shape=alt.Shape("revision:N", scale=alt.Scale(**theme.shapes(revisions)), legend=legend),
            tooltip=[
                alt.Tooltip("row:N", title="ablated"),
                alt.Tooltip("revision:N", title="checkpoint"),
                alt.Tooltip("accuracy:Q", format=".3f"),
                alt.Tooltip("accuracy_change:Q", format="+.3f", title="change"),
                alt.Tooltip("interval:N"),
            ],
        ),
        picked(base).encode(x=x, y=y),
    ]
    width = 700 if len(tasks) == 1 else 320
    chart = panels(layers, table, "task", tasks, width=width, height=alt.Step(18), beside=110)
    chart = chart.resolve_scale(y="independent")
    return chart.properties(usermeta=fit(panel=200, margin=112), params=[PICKED])


def ablated_name(features: str, kind: str) -> str:
    """Name what was ablated: a feature by its id, a set by its name, a random set as such.

    Examples:
        >>> ablated_name("123", "single"), ablated_name("top-10", "random")
        ('f123', 'random top-10')
    """
    if kind == "single" and features.isdecimal():
        return feature_name(int(features))
    return f"random {features}" if kind == "random" and "random" not in features else features


UNTOLD = 3.0
"""An interval of a share that is wider says nothing: a model that does not do the task has nothing to share."""


def faithfulness_chart(faithfulness: pd.DataFrame) -> alt.FacetChart:
    """Share of a task's metric that the top n features keep, and that is left without them, against n.

    Left panels: only the n features (and the error term) stay; 1 is the whole model. Right panels: these n are
    taken away. Random features of the same number, where the table has them, are dashed. Bands are intervals;
    where one is wider than `UNTOLD`, nothing is drawn.

    Args:
        faithfulness: task, revision, n, faithfulness, faithfulness_low, faithfulness_high, completeness,
            completeness_low, completeness_high, and, with a control, features ("top" or "random").

    Raises:
        ReportError: when the table lacks a column or holds no value.

    Examples:
        >>> faithfulness_chart(ct.faithfulness(suite, crosscoder, task, ranking(attribution)))
    """
    table = checked(faithfulness, "faithfulness")
    parts = []
    for column, what in (("faithfulness", "top n kept"), ("completeness", "top n taken away")):
        part = table[["task", "revision", "features", "n"]].copy()
        part["value"], part["low"], part["high"] = (table[f"{column}{end}"] for end in ("", "_low", "_high"))
        part["panel"] = part["task"] + ": " + what
        parts.append(part)
    curves = pd.concat(parts, ignore_index=True).dropna(subset="value")
    curves = curves[~(curves["high"] - curves["low"] > UNTOLD)]
    if curves.empty:
        raise ReportError("the faithfulness table has no value to draw")
    # No features at all would lie at minus infinity of the axis.
    curves = curves[curves["n"] > 0]
    revisions = in_order(table["revision"])
    names = [f"{task}: {what}" for task in in_order(table["task"]) for what in ("top n kept", "top n taken away")]
    domain = padded([*curves["value"], 0.0, 1.0])
    scale = alt.Scale(domain=[max(domain[0], -1.0), min(domain[1], 2.0)], nice=False, clamp=True)
    ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if n <= curves["n"].max()]
    x = alt.X(
        "n:Q",
        title="features (log scale)",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(values=ticks, format="d"),
    )
    y = alt.Y("value:Q", title="share of the metric", scale=scale, axis=alt.Axis(format=".1f", tickCount=5))
    legend = alt.Legend(columns=min(4, len(revisions)))
    colour = alt.Color("revision:N", scale=alt.Scale(**theme.colours(revisions)), legend=legend)
    shape = alt.Shape("revision:N", scale=alt.Scale(**theme.shapes(revisions)), legend=legend)
    others = [name for name in in_order(table["features"]) if name != TOP]
    dash = alt.StrokeDash(
        "features:N",
        scale=alt.Scale(domain=[TOP, *others], range=[[1, 0], *[[4, 3]] * len(others)]),
        legend=alt.Legend() if others else None,
    )
    base = alt.Chart()
    layers = [
        *(
            alt.Chart(one_row()).mark_rule(color=theme.FAINT, strokeDash=[3, 3]).encode(y=alt.datum(level))
            for level in (0, 1)
        ),
        base.mark_area(opacity=0.12).encode(
            x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q", color=colour, detail="features:N"
        ),
        base.mark_line().encode(x=x, y=y, color=colour, strokeDash=dash),
        base.mark_point(filled=True, opacity=1, size=34).encode(
            x=x, y=y, color=colour, shape=shape,
            tooltip=[
                alt.Tooltip("revision:N", title="checkpoint"), "features:N", alt.Tooltip("n:Q"),
                alt.Tooltip("value:Q", format=".3f", title="share"),
                alt.Tooltip("low:Q", format=".3f"), alt.Tooltip("high:Q", format=".3f"),
            ],
        ),
    ]  # fmt: skip
    chart = panels(layers, curves, "panel", names, width=350, height=200, beside=84)
    return chart.properties(usermeta=fit(panel=240, margin=84))
