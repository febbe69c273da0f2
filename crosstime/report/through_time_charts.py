"""Charts of features through training: decoder norms, and how much of a task a few features keep."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report import labels, theme
from crosstime.report.columns import TOP, checked, feature_name, in_order
from crosstime.report.effect_lines import LABEL
from crosstime.report.panels import PICKED, checkpoint_axis, fit, one_row, padded, panels, picked


def norms_chart(
    temporal: pd.DataFrame, compared: Sequence[str] | None = None, *, coloured: Sequence[int] = ()
) -> alt.LayerChart:
    """Decoder norm of every feature at each checkpoint, a few of them coloured and named.

    Args:
        temporal: task, feature, revision, relie, relie_low, relie_high, reldec, decoder_norm; a norm is the same
            for all tasks.
        compared: revisions in order; by default in order of appearance.
        coloured: features to colour, at most as many as the palette has colours; by default those with the
            largest norm.

    Raises:
        ReportError: when the table lacks a column or holds no norm.

    Examples:
        >>> norms_chart(temporal, ["step64", "main"], coloured=[405, 388]).save("norms.svg")
    """
    table = checked(temporal, "temporal").drop_duplicates(["feature", "revision"]).dropna(subset="decoder_norm")
    if table.empty:
        raise ReportError("the temporal table has no decoder norm to draw")
    order = list(compared) if compared is not None else in_order(table["revision"])
    table = table[["feature", "revision", "decoder_norm"]].copy()
    largest = table.groupby("feature")["decoder_norm"].max().sort_values(ascending=False, kind="stable")
    main = [feature for feature in coloured if feature in largest.index] or largest.index.tolist()
    colour_of = dict(zip(main, theme.PALETTE, strict=False))
    table["name"] = table["feature"].map(feature_name)
    table["colour"] = table["feature"].map(lambda feature: colour_of.get(feature, theme.FAINT))
    table["main"] = table["feature"].isin(list(colour_of))
    low, high = padded([*table["decoder_norm"], 0.0])
    height = 300
    ends = table[table["main"] & (table["revision"] == order[-1])].copy()
    ends["label_y"] = labels.spread(ends["decoder_norm"].tolist(), (high - low) * LABEL / height, low, high)

    x, y_scale = checkpoint_axis(order), alt.Scale(domain=[low, high], nice=False)
    y = alt.Y("decoder_norm:Q", title="decoder norm", scale=y_scale)
    paint = alt.Color("colour:N", scale=None)
    tooltip = [
        alt.Tooltip("name:N", title="feature"),
        alt.Tooltip("revision:N", title="checkpoint"),
        alt.Tooltip("decoder_norm:Q", format=".3f", title="decoder norm"),
    ]
    base, end = alt.Chart(table), alt.Chart(ends)
    layers = [
        *(
            base.transform_filter(f"datum.main == {is_main}")
            .mark_line(strokeWidth=width, cursor="pointer")
            .encode(x=x, y=y, color=paint, detail="name:N")
            for is_main, width in (("false", 1), ("true", 2))
        ),
        base.mark_point(filled=True, opacity=1, cursor="pointer").encode(
            x=x, y=y, color=paint, tooltip=tooltip, size=alt.condition("datum.main", alt.value(34), alt.value(12))
        ),
        picked(base).encode(x=x, y=y),
        end.mark_rule(xOffset=5, x2Offset=13, strokeWidth=0.8).encode(
            x=x, x2="revision:N", y=y, y2="label_y:Q", color=paint
        ),
        end.mark_text(align="left", dx=15).encode(x=x, y=alt.Y("label_y:Q", scale=y_scale), text="name:N", color=paint),
    ]
    chart = alt.layer(*layers).properties(width=800, height=height, params=[PICKED])
    return chart.properties(usermeta=fit(panel=240, margin=116))


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
        >>> faithfulness_chart(ct.faithfulness(suite, crosscoder, task, ct.ranking(attribution)))
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
