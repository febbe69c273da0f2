"""Decoder norms of the features at each checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import labels, theme
from crosstime.report.charts.effect_lines import LABEL
from crosstime.report.charts.panels import (
    PICKED,
    checkpoint_axis,
    checkpoint_order,
    fit,
    overlay,
    padded,
    ring_picked,
)
from crosstime.report.check_table import check_table
from crosstime.report.columns import feature_name

HEIGHT = 300
"""Height of the plot in pixels."""


def norms_chart(
    temporal: pd.DataFrame,
    compared: Sequence[str] | None = None,
    *,
    coloured: Sequence[int] = (),
    ordered: bool = True,
) -> alt.LayerChart:
    """Decoder norm of every feature at each checkpoint, a few of them coloured and labelled.

    Args:
        temporal: feature, revision, reldec, decoder_norm, with or without a task; the norm is the same for all tasks.
        compared: revisions in order; by default in order of first appearance.
        coloured: features to colour, at most as many as the palette has colours; by default those with the largest
            norm.
        ordered: whether the checkpoints are points of one training; models side by side have no order, and their
            norms are points that no lines join.

    Raises:
        ReportError: when the table lacks a column or holds no norm.

    Examples:
        >>> norms_chart(temporal, ["step64", "main"], coloured=[405, 388]).save("norms.svg")  # doctest: +SKIP
    """
    # Keep one row per feature and checkpoint
    table = check_table(temporal, "decoders").drop_duplicates(["feature", "revision"]).dropna(subset="decoder_norm")
    if table.empty:
        raise ReportError("the temporal table has no decoder norm to draw")
    order = checkpoint_order(table, compared)
    table = table[["feature", "revision", "decoder_norm"]].copy()

    # Colour the given features, or those with the largest norm
    largest = table.groupby("feature")["decoder_norm"].max().sort_values(ascending=False, kind="stable")
    main = [feature for feature in coloured if feature in largest.index] or largest.index.tolist()
    colour_of = dict(zip(main, theme.PALETTE, strict=False))
    table["name"] = table["feature"].map(feature_name)
    table["colour"] = table["feature"].map(lambda feature: colour_of.get(feature, theme.FAINT))
    table["main"] = table["feature"].isin(list(colour_of))

    # Label them at the last checkpoint
    low, high = padded([*table["decoder_norm"], 0.0])
    ends = table[table["main"] & (table["revision"] == order[-1])].copy()
    ends["label_y"] = labels.spread(ends["decoder_norm"].tolist(), (high - low) * LABEL / HEIGHT, low, high)

    # Encode the columns
    x, y_scale = checkpoint_axis(order), alt.Scale(domain=[low, high], nice=False)
    y = alt.Y("decoder_norm:Q", title="decoder norm", scale=y_scale)
    label_y = alt.Y("label_y:Q", scale=y_scale)
    colour = alt.Color("colour:N", scale=None)
    size = alt.condition("datum.main", alt.value(34), alt.value(12))
    tooltip = [
        alt.Tooltip("name:N", title="feature"),
        alt.Tooltip("revision:N", title="checkpoint"),
        alt.Tooltip("decoder_norm:Q", format=".3f", title="decoder norm"),
    ]

    # Draw the grey lines below the coloured ones, and the labels on top
    base, end = alt.Chart(table), alt.Chart(ends)
    lines = [
        base.transform_filter("datum.main == false")
        .mark_line(strokeWidth=1, cursor="pointer")
        .encode(x=x, y=y, color=colour, detail="name:N"),
        base.transform_filter("datum.main == true")
        .mark_line(strokeWidth=2, cursor="pointer")
        .encode(x=x, y=y, color=colour, detail="name:N"),
    ]
    layers = [
        *(lines if ordered else ()),
        base.mark_point(filled=True, opacity=1, cursor="pointer").encode(
            x=x, y=y, color=colour, tooltip=tooltip, size=size
        ),
        ring_picked(base).encode(x=x, y=y),
        end.mark_rule(xOffset=5, x2Offset=13, strokeWidth=0.8).encode(
            x=x, x2="revision:N", y=y, y2="label_y:Q", color=colour
        ),
        end.mark_text(align="left", dx=15).encode(x=x, y=label_y, text="name:N", color=colour),
    ]
    chart = overlay(layers).properties(width=800, height=HEIGHT, params=[PICKED])
    return chart.properties(usermeta=fit(panel=240, margin=116))
