"""Charts of what becomes of the features: lives, onsets, and how decoders turn and share the space."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.panels import checkpoint_axis, fit, panels
from crosstime.report.columns import in_order, needed
from crosstime.report.numbers import interval

ROW = 34
"""Pixels of a bar and the room to the next."""
NOTHING = ("never", "silent")
"""A life and a kind of features of which nothing is to be said: drawn in grey."""


def life_cycles_chart(shares: pd.DataFrame) -> alt.Chart:
    """Share of features with each life as a stacked bar, one for decoder norms and one for the effects on each task.

    Args:
        shares: source, life_cycle, count, share, low, high: the table ``life_cycle_shares`` of `crosstime.evolve`.

    Raises:
        ReportError: the table lacks a column, or holds no feature.

    Examples:
        >>> life_cycles_chart(tables["life_cycle_shares"])
    """
    table = needed(shares, "life cycle", ["source", "life_cycle", "count", "share", "low", "high"])
    lives = in_order(table["life_cycle"])
    table["place"] = table["life_cycle"].map(lives.index)
    table = table[table["count"] > 0].copy()
    if table.empty:
        raise ReportError("the life cycle table holds no feature to draw")
    table["interval"] = [interval(low, high) for low, high in zip(table["low"], table["high"], strict=True)]
    sources, shown = in_order(table["source"]), [life for life in lives if life in set(table["life_cycle"])]
    chart = (
        alt.Chart(table)
        .mark_bar(stroke="white")
        .encode(
            y=alt.Y("source:N", sort=sources, title=None, axis=_NAMES),
            x=alt.X("share:Q", title="share of features", stack="zero", scale=alt.Scale(domain=[0, 1]), axis=_SHARES),
            color=alt.Color("life_cycle:N", scale=_scale(shown), legend=alt.Legend(columns=4)),
            order="place:Q",
            tooltip=[
                "source:N", alt.Tooltip("life_cycle:N", title="life"), alt.Tooltip("count:Q", title="features"),
                alt.Tooltip("share:Q", format=".2f"), "interval:N",
            ],
        )
    )  # fmt: skip
    return chart.properties(width=560, height=ROW * len(sources), usermeta=fit(panel=200, margin=280))


def onsets_chart(
    evolution: pd.DataFrame, kinds: pd.DataFrame | None = None, compared: Sequence[str] | None = None
) -> alt.Chart:
    """How many features have their onset at each checkpoint, stacked by kind where kinds are known.

    Args:
        evolution: feature and onset: the table ``evolution`` of `crosstime.evolve`.
        kinds: feature and kind: its table ``kinds``.
        compared: revisions in order; by default in order of appearance.

    Raises:
        ReportError: a table lacks a column, or no feature has an onset.

    Examples:
        >>> onsets_chart(tables["evolution"], tables["kinds"], ["step64", "main"])
    """
    table = needed(evolution, "evolution", ["feature", "onset"]).dropna(subset="onset").astype({"onset": object})
    if table.empty:
        raise ReportError("no feature of the evolution table has an onset")
    order = list(compared) if compared is not None else in_order(table["onset"])
    named = pd.Series("features", index=table.index)
    if kinds is not None:
        known = needed(kinds, "kinds", ["feature", "kind"]).set_index("feature")["kind"]
        named = table["feature"].map(known).fillna("unknown")
    counts = table.assign(kind=named).groupby(["onset", "kind"], sort=False).size().reset_index(name="features")
    shown = counts.groupby("kind")["features"].sum().sort_values(ascending=False, kind="stable").index.tolist()
    counts = counts.rename(columns={"onset": "revision"}).assign(place=counts["kind"].map(shown.index))
    chart = (
        alt.Chart(counts)
        .mark_bar(stroke="white", width=_wide(560, order))
        .encode(
            x=checkpoint_axis(order).title("checkpoint of the onset"),
            y=alt.Y("features:Q", title="features", stack="zero", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color("kind:N", scale=_scale(shown), legend=alt.Legend(columns=4) if len(shown) > 1 else None),
            order="place:Q",
            tooltip=[alt.Tooltip("revision:N", title="onset"), "kind:N", "features:Q"],
        )
    )
    return chart.properties(width=560, height=220, usermeta=fit(panel=240, margin=90))


def decoder_steps_chart(
    rotation_steps: pd.DataFrame, dimensionality: pd.DataFrame, compared: Sequence[str] | None = None
) -> alt.FacetChart:
    """How far features turn on the way to each checkpoint, and how many dimensions they fill there.

    Left: mean angle between the decoder directions at a checkpoint and at the one before, of features present at both.
    Right: sum of the features' dimensionality.

    Args:
        rotation_steps: revision, previous, degrees, share, turning: from `crosstime.evolve`.
        dimensionality: revision, total, alive: the same.
        compared: revisions in order; by default those of `dimensionality`.

    Raises:
        ReportError: a table lacks a column, or both are empty.

    Examples:
        >>> decoder_steps_chart(tables["rotation_steps"], tables["dimensionality"])
    """
    turned = needed(rotation_steps, "rotation steps", ["revision", "previous", "degrees", "share", "turning"])
    filled = needed(dimensionality, "dimensionality", ["revision", "total", "alive"])
    order = list(compared) if compared is not None else in_order(filled["revision"])
    parts = {
        "degrees turned since the checkpoint before": [
            (row.revision, row.degrees, f"{row.share:.0%} of all rotation; {row.turning:,.0f} features turn most here")
            for row in turned.itertuples()
        ],
        "dimensions that the features fill": [
            (row.revision, row.total, f"{row.alive:,.0f} features present") for row in filled.itertuples()
        ],
    }
    rows = pd.DataFrame(
        [(name, *row) for name, listed in parts.items() for row in listed],
        columns=["panel", "revision", "value", "note"],
    ).dropna(subset="value")
    if rows.empty:
        raise ReportError("neither rotation nor dimensionality has a value to draw")
    bars = (
        alt.Chart()
        .mark_bar(width=_wide(330, order), color=theme.PALETTE[0])
        .encode(
            x=checkpoint_axis(order),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=5)),
            tooltip=[alt.Tooltip("revision:N", title="checkpoint"), alt.Tooltip("value:Q", format=".3~f"), "note:N"],
        )
    )
    names = [name for name in parts if name in set(rows["panel"])]
    chart = panels([bars], rows, "panel", names, width=330, height=190).resolve_scale(y="independent")
    return chart.properties(usermeta=fit(panel=240, margin=84))


_SHARES = alt.Axis(format=".0%", tickCount=5)
_NAMES = alt.Axis(ticks=False, domain=False, labelColor=theme.INK)


def _wide(width: int, order: Sequence[str]) -> int:
    """Pixels of a bar, so that those of many checkpoints stay apart."""
    return max(2, min(32, round(0.6 * width / len(order))))


def _scale(names: Sequence[str]) -> alt.Scale:
    """The palette for what has something to say, grey for what has not."""
    colours = theme.colours([name for name in names if name not in NOTHING])
    painted = dict(zip(colours["domain"], colours["range"], strict=True))
    return alt.Scale(domain=list(names), range=[painted.get(name, theme.FAINT) for name in names])
