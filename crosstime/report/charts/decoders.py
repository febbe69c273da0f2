"""Charts of decoders through training."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import labels, theme
from crosstime.report.charts.effect_lines import LABEL
from crosstime.report.charts.panels import PICKED, checkpoint_axis, fit, padded, picked
from crosstime.report.columns import checked, feature_name, in_order


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
