"""Charts of a suite as a whole: how its checkpoints differ, which were chosen, how near they are to n-grams."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.panels import fit, padded
from crosstime.report.charts.token_axis import TokenAxis
from crosstime.report.columns import needed

CELL = 46
"""Pixels of a cell of a heat map."""

MEASURES = {
    "cosine": "mean cosine",
    "pearson": "mean Pearson correlation",
    "cka": "linear CKA",
}


def similarity_chart(similarity: pd.DataFrame, measure: str = "cosine") -> alt.LayerChart:
    """Likeness of each two checkpoints as a heat map, with its number in every cell.

    Args:
        similarity: revision, other and the measure, from `crosstime.similarity`.
        measure: the column to draw: cosine, pearson or cka.

    Raises:
        ReportError: the table is empty or lacks the measure.

    Examples:
        >>> similarity_chart(similarity, "cka")
    """
    table = _columns(similarity, "similarity", ["revision", "other", measure]).rename(columns={measure: "value"})
    return _heat_map(table, MEASURES.get(measure, measure), [], highest=max(1.0, float(table["value"].max())))


def change_chart(changes: pd.DataFrame, chosen: Sequence[str]) -> alt.LayerChart:
    """Change between each two checkpoints as a heat map; the steps between the chosen ones are framed.

    Args:
        changes: revision, other, change: `Choice.changes` of `crosstime.suites.select`.
        chosen: the chosen revisions in order.

    Raises:
        ReportError: the table is empty or lacks a column.

    Examples:
        >>> change_chart(choice.changes, choice.revisions)
    """
    table = _columns(changes, "changes", ["revision", "other", "change"]).rename(columns={"change": "value"})
    steps = list(zip(chosen[:-1], chosen[1:], strict=True))  # noqa: RUF007
    return _heat_map(table, f"change; framed: {' → '.join(chosen)}", steps, highest=float(table["value"].max()))


def ngram_chart(ngrams: pd.DataFrame) -> alt.LayerChart:
    """Divergence of each checkpoint's predictions from unigrams and bigrams, and its loss beside their entropies.

    Args:
        ngrams: tokens, loss, unigram_kl, bigram_kl, unigram_entropy, bigram_entropy, from
            `crosstime.ngram_divergence`.

    Raises:
        ReportError: the table is empty, lacks a column, or no checkpoint's tokens are known.

    Examples:
        >>> ngram_chart(ngrams)
    """
    names = {"loss": "loss", "unigram_kl": "KL from unigrams", "bigram_kl": "KL from bigrams"}
    entropies = {"unigram_entropy": "unigram entropy", "bigram_entropy": "bigram entropy"}
    table = _columns(ngrams, "n-gram", ["tokens", *names, *entropies]).dropna(subset="tokens")
    if table.empty:
        raise ReportError("no checkpoint's training tokens are known, so there is no axis to draw n-grams on")
    table["tokens"] = table["tokens"].astype(float)
    lines = table.melt("tokens", list(names), "line", "nats")
    lines["line"] = lines["line"].map(names)
    rules = pd.DataFrame({"line": list(entropies.values()), "nats": [float(table[name].iloc[0]) for name in entropies]})
    x = TokenAxis(table["tokens"].tolist()).encoding()
    y = alt.Y("nats:Q", scale=alt.Scale(domain=[0.0, padded([0.0, *lines["nats"], *rules["nats"]])[1]], nice=False))
    groups = list(names.values())
    legend = alt.Legend(columns=3)
    colour = alt.Color("line:N", scale=alt.Scale(**theme.colours(groups)), legend=legend)
    shape = alt.Shape("line:N", scale=alt.Scale(**theme.shapes(groups)), legend=legend)
    base = alt.Chart(lines)
    level = alt.Chart(rules)
    layers = [
        level.mark_rule(color=theme.MUTED, strokeDash=[4, 3]).encode(y=y),
        level.mark_text(align="left", dx=6, color=theme.MUTED).encode(x=alt.value("width"), y=y, text="line:N"),
        base.mark_line().encode(x=x, y=y, color=colour),
        base.mark_point(filled=True, opacity=1, size=40).encode(
            x=x, y=y, color=colour, shape=shape,
            tooltip=["line:N", alt.Tooltip("tokens:Q", format=".3~s"), alt.Tooltip("nats:Q", format=".3f")],
        ),
    ]  # fmt: skip
    return alt.layer(*layers).properties(width=680, height=300, usermeta=fit(panel=240, margin=160))


def _heat_map(table: pd.DataFrame, title: str, framed: Sequence[tuple[str, str]], *, highest: float) -> alt.LayerChart:
    order = list(dict.fromkeys([*table["revision"], *table["other"]]))
    # A table of each pair once has no row of the last checkpoint and no column of the first.
    down, across = ([name for name in order if name in set(table[side])] for side in ("revision", "other"))
    low = min(0.0, float(table["value"].min()))
    table["framed"] = [pair in framed for pair in zip(table["revision"], table["other"], strict=True)]
    table["dark"] = table["value"] > low + 0.55 * (highest - low)
    width, height = CELL * len(across), CELL * len(down)
    rows = alt.Y("revision:N", sort=down, title=None, scale=alt.Scale(domain=down), axis=_AXIS)
    columns = alt.X("other:N", sort=across, title=None, scale=alt.Scale(domain=across), axis=_AXIS_BELOW)
    base = alt.Chart(table).encode(x=columns, y=rows)
    colour = alt.Color(
        "value:Q", scale=alt.Scale(domain=[low, highest], range=["#f4f6fb", theme.PALETTE[0]]), legend=None
    )
    tooltip = ["revision:N", "other:N", alt.Tooltip("value:Q", format=".4f")]
    layers = [
        base.mark_rect(stroke="white").encode(color=colour, tooltip=tooltip),
        base.transform_filter("datum.framed").mark_rect(fill=None, stroke=theme.PALETTE[1], strokeWidth=3),
        base.mark_text(fontSize=11).encode(
            text=alt.Text("value:Q", format=".2f"), color=alt.condition("datum.dark", alt.value("white"), _INK)
        ),
    ]
    return alt.layer(*layers).properties(
        title=title, width=width, height=height, usermeta=fit(panel=width, margin=120, fixed=True)
    )


_INK = alt.value(theme.INK)
_AXIS = alt.Axis(ticks=False, domain=False, labelColor=theme.INK)
_AXIS_BELOW = alt.Axis(ticks=False, domain=False, labelColor=theme.INK, labelAngle=-40)


def _columns(frame: pd.DataFrame, table: str, names: Sequence[str]) -> pd.DataFrame:
    found = needed(frame, table, names)
    if found.empty:
        raise ReportError(f"the {table} table has no rows to draw")
    return found
