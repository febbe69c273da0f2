"""How much of a task a few features keep, and how much remains without them."""

from __future__ import annotations

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.panels import fit, group_encodings, one_row, padded, panels
from crosstime.report.check_table import check_table
from crosstime.report.columns import TOP, distinct

WIDEST_INTERVAL = 3.0
"""Shares with a wider interval are not drawn: they carry no information, because the model does not do the task."""

PANELS = {"faithfulness": "top n kept", "completeness": "top n taken away"}
"""Columns of shares, and the titles of their panels."""

TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def faithfulness_chart(faithfulness: pd.DataFrame) -> alt.FacetChart:
    """Share of a task's metric that the top n features keep, and that remains without them, against n.

    Left panels: only the n features (and the error term) stay; 1 is the unmodified model. Right panels: the n features
    are removed. Random features of the same number, if the table has them, are dashed. Bands show intervals; shares
    whose interval is wider than `WIDEST_INTERVAL` are omitted.

    Args:
        faithfulness: task, revision, n, faithfulness, faithfulness_low, faithfulness_high, completeness,
            completeness_low, completeness_high, and, with a control, features ("top" or "random").

    Raises:
        ReportError: when the table lacks a column or holds no value.

    Examples:
        >>> faithfulness_chart(ct.faithfulness(suite, crosscoder, task, ranking(attribution)))  # doctest: +SKIP
    """
    # One row per share, without the point at n = 0, which a logarithmic axis cannot show
    table = check_table(faithfulness, "faithfulness")
    curves = _curves(table)
    if curves.empty:
        raise ReportError("the faithfulness table has no value to draw")
    curves = curves[curves["n"] > 0]
    revisions = distinct(table["revision"])
    titles = [f"{task}: {title}" for task in distinct(table["task"]) for title in PANELS.values()]

    # Encode shares and sizes
    low, high = padded([*curves["value"], 0.0, 1.0])
    y_scale = alt.Scale(domain=[max(low, -1.0), min(high, 2.0)], nice=False, clamp=True)
    y = alt.Y("value:Q", title="share of the metric", scale=y_scale, axis=alt.Axis(format=".1f", tickCount=5))
    ticks = [n for n in TICKS if n <= curves["n"].max()]
    x_scale = alt.Scale(type="log", nice=False)
    x = alt.X("n:Q", title="features (log scale)", scale=x_scale, axis=alt.Axis(values=ticks, format="d"))

    # Distinguish checkpoints by colour and shape, and controls by dashes
    colour, shape = group_encodings("revision", revisions, alt.Legend(columns=min(4, len(revisions))))
    controls = [name for name in distinct(table["features"]) if name != TOP]
    dash = alt.StrokeDash(
        "features:N",
        scale=alt.Scale(domain=[TOP, *controls], range=[[1, 0], *[[4, 3]] * len(controls)]),
        legend=alt.Legend() if controls else None,
    )
    tooltip = [
        alt.Tooltip("revision:N", title="checkpoint"),
        "features:N",
        alt.Tooltip("n:Q"),
        alt.Tooltip("value:Q", format=".3f", title="share"),
        alt.Tooltip("low:Q", format=".3f"),
        alt.Tooltip("high:Q", format=".3f"),
    ]

    # Draw the curves over their bands, with rules at the shares 0 and 1
    base = alt.Chart()
    rule = alt.Chart(one_row()).mark_rule(color=theme.FAINT, strokeDash=[3, 3])
    layers = [
        rule.encode(y=alt.datum(0)),
        rule.encode(y=alt.datum(1)),
        base.mark_area(opacity=0.12).encode(
            x=x, y=alt.Y("low:Q", scale=y_scale), y2="high:Q", color=colour, detail="features:N"
        ),
        base.mark_line().encode(x=x, y=y, color=colour, strokeDash=dash),
        base.mark_point(filled=True, opacity=1, size=34).encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip),
    ]
    chart = panels(layers, curves, "panel", titles, width=350, height=200, gap=84)
    return chart.properties(usermeta=fit(panel=240, margin=84))


def _curves(table: pd.DataFrame) -> pd.DataFrame:
    """Return task, revision, features, n, value, low, high and panel, one row per share that can be drawn."""
    halves = []
    for column, title in PANELS.items():
        half = table[["task", "revision", "features", "n"]].copy()
        half["value"], half["low"], half["high"] = (table[f"{column}{end}"] for end in ("", "_low", "_high"))
        half["panel"] = half["task"] + ": " + title
        halves.append(half)
    curves = pd.concat(halves, ignore_index=True).dropna(subset="value")
    return curves[~(curves["high"] - curves["low"] > WIDEST_INTERVAL)]
