"""The report's charts: each takes one of its tables and returns an altair chart.

In a notebook, ``altair.theme.enable("crosstime")`` gives them the look they have on the page. A chart never
shows a value that is not there: NaN breaks a line and leaves a point out.

Every chart carries ``usermeta``, read by `charts.js` to fit it to a screen: the least width of a panel, the
pixels that axes and labels take beside it, and whether its size is fixed (labels were placed for that size).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import labels, theme
from crosstime.report.charts.effect_lines import LABEL, LABELLED, effect_lines
from crosstime.report.charts.panels import (
    ABSENT_BELOW,
    PICKED,
    SPECIFIC_ABOVE,
    checkpoint_axis,
    class_regions,
    fit,
    one_row,
    padded,
    panels,
    picked,
)
from crosstime.report.charts.token_axis import NARROW, TokenAxis
from crosstime.report.columns import feature_name, filled, in_order
from crosstime.report.numbers import interval


def accuracy_chart(accuracy: pd.DataFrame, compared: Sequence[str] = ()) -> alt.LayerChart:
    """Accuracy of every checkpoint of a suite against the tokens it had seen, one line a task.

    Args:
        accuracy: revision, step, tokens, task, n, accuracy, low, high, logit_difference.
        compared: revisions to mark with a vertical rule and their name.

    Raises:
        ReportError: when the table is empty or lacks a column.

    Examples:
        >>> accuracy_chart(accuracy, compared=["step64", "main"]).save("accuracy.svg")
    """
    table = filled(accuracy, "accuracy").sort_values("tokens", kind="stable")
    tasks = in_order(table["task"])
    table["compared"] = table["revision"].isin(list(compared))
    table["interval"] = [interval(low, high) for low, high in zip(table["low"], table["high"], strict=True)]
    axis = TokenAxis(table["tokens"].tolist())
    marks = table[table["compared"]].drop_duplicates("revision")[["revision", "tokens"]]
    marks["row"] = labels.stagger(
        [axis.position(tokens) * NARROW for tokens in marks["tokens"]],
        [len(name) * labels.LETTER for name in marks["revision"]],
    )
    rows = int(marks["row"].max()) + 1 if len(marks) else 0

    x = axis.encoding()
    domain = padded([*table["accuracy"], *table["low"], *table["high"], 0.5])
    y_scale = alt.Scale(domain=domain, nice=False, zero=False)
    y = alt.Y("accuracy:Q", title="accuracy", scale=y_scale)
    legend = alt.Legend(offset=8 + rows * LABEL) if len(tasks) > 1 else None
    colour = alt.Color("task:N", scale=alt.Scale(**theme.colours(tasks)), legend=legend)
    shape = alt.Shape("task:N", scale=alt.Scale(**theme.shapes(tasks)), legend=legend)
    tooltip = [
        alt.Tooltip("task:N"),
        alt.Tooltip("revision:N", title="checkpoint"),
        alt.Tooltip("tokens:Q", format=".3~s", title="training tokens"),
        alt.Tooltip("accuracy:Q", format=".3f"),
        alt.Tooltip("interval:N"),
        alt.Tooltip("n:Q", title="pairs"),
    ]
    base = alt.Chart(table)
    chance = (
        alt.Chart(one_row()).mark_rule(color=theme.FAINT, strokeDash=[4, 3]).encode(y=alt.YDatum(0.5, scale=y_scale))
    )
    chance_text = (
        alt.Chart(one_row())
        .mark_text(align="left", dx=6, color=theme.MUTED, text="chance")
        .encode(x=alt.value("width"), y=alt.YDatum(0.5, scale=y_scale))
    )
    rules = alt.Chart(marks).mark_rule(color=theme.MUTED, strokeDash=[1, 3]).encode(x=x)
    names = [
        alt.Chart(marks[marks["row"] == row])
        .mark_text(color=theme.INK, baseline="bottom")
        .encode(x=x, y=alt.value(-4 - row * LABEL), text="revision:N")
        for row in range(rows)
    ]
    bands = base.mark_area(opacity=0.14).encode(x=x, y=alt.Y("low:Q", scale=y_scale), y2="high:Q", color=colour)
    lines = base.mark_line().encode(x=x, y=y, color=colour)
    points = base.mark_point(filled=True, opacity=1).encode(
        x=x,
        y=y,
        color=colour,
        shape=shape,
        size=alt.condition("datum.compared", alt.value(80), alt.value(28)),
        tooltip=tooltip,
    )
    layers = [chance, chance_text, rules, bands, lines, points, *names]
    return alt.layer(*layers).properties(width=800, height=300, usermeta=fit(panel=240, margin=104))


def effects_chart(
    effects: pd.DataFrame, compared: Sequence[str] | None = None, *, labelled: int = LABELLED
) -> alt.FacetChart:
    """Indirect effect of each feature across the compared checkpoints, one panel a task.

    The features with the largest |IE| carry a label at their last checkpoint; of those, as many as the
    palette has colours are coloured, alike in all panels, and have their interval drawn. The rest is
    context in grey. The error term is dashed; where it is over three times as large as every feature it
    would flatten them, so it is left out and the title gives its largest value.

    Args:
        effects: task, feature (-1 is the error term), revision, ie, low, high.
        compared: revisions in order; by default in order of appearance.
        labelled: how many features of a task get a label.

    Raises:
        ReportError: when the table is empty or lacks a column.

    Examples:
        >>> effects_chart(effects, ["step64", "step256", "main"])
    """
    table = filled(effects, "effects")
    order = list(compared) if compared is not None else in_order(table["revision"])
    height = 320
    table, (low, high), note = effect_lines(table, order, labelled=labelled, height=height)
    tasks = in_order(table["task"])
    x = checkpoint_axis(order)
    y_scale = alt.Scale(domain=[low, high], nice=False)
    y = alt.Y("ie:Q", title="indirect effect", scale=y_scale)
    paint = alt.Color("colour:N", scale=None)
    tooltip = [
        alt.Tooltip("name:N", title="feature"),
        alt.Tooltip("revision:N", title="checkpoint"),
        alt.Tooltip("ie:Q", format=".4~f", title="IE"),
        alt.Tooltip("interval:N"),
    ]
    base = alt.Chart()
    is_main, is_context, is_error = (f"datum.kind == '{kind}'" for kind in ("main", "context", "error"))
    zero = alt.Chart(one_row()).mark_rule(color=theme.FAINT).encode(y=alt.datum(0))
    layers = [
        zero,
        base.transform_filter(is_main)
        .mark_area(opacity=0.1)
        .encode(x=x, y=alt.Y("low:Q", scale=y_scale), y2="high:Q", color=paint, detail="name:N"),
        base.transform_filter(is_context)
        .mark_line(strokeWidth=1, cursor="pointer")
        .encode(x=x, y=y, color=paint, detail="name:N"),
        base.transform_filter(is_context)
        .mark_point(filled=True, opacity=1, size=12, cursor="pointer")
        .encode(x=x, y=y, color=paint, tooltip=tooltip),
        base.transform_filter(is_error).mark_line(strokeDash=[5, 3]).encode(x=x, y=y, color=paint, detail="name:N"),
        base.transform_filter(is_main).mark_line(cursor="pointer").encode(x=x, y=y, color=paint, detail="name:N"),
        base.transform_filter("datum.kind != 'context'")
        .mark_point(filled=True, opacity=1, size=34, cursor="pointer")
        .encode(x=x, y=y, color=paint, tooltip=tooltip),
        picked(base).encode(x=x, y=y),
        base.transform_filter("datum.label != ''")
        .mark_rule(xOffset=5, x2Offset=13, strokeWidth=0.8)
        .encode(x=x, x2="revision:N", y=y, y2="label_y:Q", color=alt.Color("ink:N", scale=None)),
        # White behind the letters, so that the zero line does not strike them through.
        *(
            base.transform_filter("datum.label != ''")
            .mark_text(align="left", dx=15, **halo)
            .encode(
                x=x,
                y=alt.Y("label_y:Q", scale=y_scale),
                text="label:N",
                color=alt.Color("ink:N", scale=None),
            )
            for halo in ({"stroke": "white", "strokeWidth": 4}, {})
        ),
    ]
    chart = panels(layers, table, "task", tasks, width=800 if len(tasks) == 1 else 370, height=height, beside=96)
    chart = chart.properties(usermeta=fit(panel=240, margin=116), params=[PICKED])
    return chart.properties(title=alt.TitleParams(note)) if note else chart


def temporal_chart(
    temporal: pd.DataFrame, compared: Sequence[str] | None = None, *, labelled: int = 10
) -> alt.FacetChart:
    """RelIE against RelDec of each feature, over the regions of the three classes.

    For two checkpoints both values of the earlier one are one minus those of the later, so only the later
    is drawn; for more, each has its panel. A point off the diagonal is a feature whose decoder norm does
    not tell when it matters. Features for which either value is undefined are left out.

    Args:
        temporal: task, feature, revision, relie, relie_low, relie_high, reldec, decoder_norm.
        compared: revisions in order; by default in order of appearance.
        labelled: how many points of a panel get a label: those farthest from the diagonal, where there is room.

    Raises:
        ReportError: when the table is empty or lacks a column, or no feature has both values.

    Examples:
        >>> temporal_chart(temporal, ["step64", "main"])
    """
    table = filled(temporal, "temporal")
    order = list(compared) if compared is not None else in_order(table["revision"])
    tasks = in_order(table["task"])
    shown = order[-1:] if len(order) <= 2 else order
    table = table[table["revision"].isin(shown)].dropna(subset=["relie", "reldec"]).copy()
    if table.empty:
        raise ReportError("no feature of the temporal table has both a RelIE and a RelDec")
    table["name"] = table["feature"].map(feature_name)
    table["interval"] = [
        interval(low, high, 2) for low, high in zip(table["relie_low"], table["relie_high"], strict=True)
    ]
    size = 280 if len(shown) < 3 else 250
    table["label_x"], table["label_y"] = math.nan, math.nan
    for revision in shown:
        # Points that the two values disagree about are the ones to look at: their labels go first.
        panel = table[table["revision"] == revision]
        panel = panel.loc[(panel["relie"] - panel["reldec"]).abs().sort_values(ascending=False).index]
        pixels = [(x * size, (1 - y) * size) for x, y in zip(panel["reldec"], panel["relie"], strict=True)]
        places = labels.beside(pixels, panel["name"].tolist()[:labelled], (size, size))
        for index, place in zip(panel.index, places, strict=False):
            if place is not None:
                table.loc[index, ["label_x", "label_y"]] = place[0] / size, 1 - place[1] / size

    def unit(field: str, title: str) -> dict[str, object]:
        scale = alt.Scale(domain=[0, 1], nice=False)
        axis = alt.Axis(values=[0, ABSENT_BELOW, 0.5, SPECIFIC_ABOVE, 1], format=".1f", grid=False)
        return {"shorthand": f"{field}:Q", "title": title, "scale": scale, "axis": axis}

    x, y = alt.X(**unit("reldec", "RelDec")), alt.Y(**unit("relie", "RelIE"))
    legend = alt.Legend(columns=1) if len(tasks) > 1 else None
    colour = alt.Color("task:N", scale=alt.Scale(**theme.colours(tasks)), legend=legend)
    shape = alt.Shape("task:N", scale=alt.Scale(**theme.shapes(tasks)), legend=legend)
    tooltip = [
        alt.Tooltip("name:N", title="feature"),
        alt.Tooltip("task:N"),
        alt.Tooltip("relie:Q", format=".2f", title="RelIE"),
        alt.Tooltip("interval:N", title="RelIE interval"),
        alt.Tooltip("reldec:Q", format=".2f", title="RelDec"),
    ]
    base = alt.Chart()
    layers = [
        *class_regions(size),
        base.mark_rule(opacity=0.35).encode(
            x=x, y=alt.Y(**unit("relie_low", "RelIE")), y2="relie_high:Q", color=colour
        ),
        base.mark_point(filled=True, opacity=0.9, size=42, cursor="pointer").encode(
            x=x, y=y, color=colour, shape=shape, tooltip=tooltip
        ),
        picked(base).encode(x=x, y=y),
        base.transform_filter("datum.label_x != null")
        .mark_text(fontSize=10.5)
        .encode(x=alt.X(**unit("label_x", "RelDec")), y=alt.Y(**unit("label_y", "RelIE")), text="name:N"),
    ]
    chart = panels(layers, table, "revision", shown, width=size, height=size, columns=3)
    return chart.properties(usermeta=fit(panel=size, margin=84, fixed=True), params=[PICKED])


_TRAINING = {
    "loss": "loss",
    "l2": "squared error",
    "sparsity": "sparsity penalty",
    "l0": "active features per token",
    "dead": "dead features",
}


def training_chart(training: pd.DataFrame, *, most: int = 300) -> alt.FacetChart:
    """The crosscoder's training curves, one small panel each.

    Args:
        training: step, loss, l2, sparsity, l0, dead.
        most: how many points of a curve are kept; a longer one is thinned evenly, its last point kept.

    Raises:
        ReportError: when the table is empty or lacks a column.

    Examples:
        >>> training_chart(training)
    """
    table = filled(training, "training").sort_values("step", kind="stable")
    stride = math.ceil(len(table) / most)
    kept = table.iloc[(len(table) - 1) % stride :: stride]
    curves = kept.melt("step", list(_TRAINING), "curve", "value").dropna(subset="value")
    if curves.empty:
        raise ReportError("the training table holds no value to draw")
    curves["curve"] = curves["curve"].map(_TRAINING)
    names = in_order(curves["curve"])
    # Thousands are shortened; a share is not written in thousandths ("20m").
    short = "format(datum.value, abs(datum.value) < 1000 ? '.3~g' : '~s')"
    lines = (
        alt.Chart()
        .mark_line(strokeWidth=1.5, color=theme.PALETTE[0], point=len(kept) == 1)
        .encode(
            x=alt.X("step:Q", axis=alt.Axis(labelExpr=short, tickCount=4), title="training step"),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(nice=4), axis=alt.Axis(tickCount=4, labelExpr=short)),
            tooltip=[alt.Tooltip("step:Q", format=","), alt.Tooltip("value:Q", format=".4~g")],
        )
    )
    chart = panels([lines], curves, "curve", names, width=240, height=110, columns=3)
    chart = chart.resolve_scale(y="independent")
    return chart.properties(usermeta=fit(panel=220, margin=84))
