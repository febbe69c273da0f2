"""How close the predictions of each checkpoint are to n-gram statistics."""

from __future__ import annotations

import altair as alt
import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.panels import fit, group_encodings, overlay, padded
from crosstime.report.charts.token_axis import TokenAxis
from crosstime.report.check_table import require_columns

LINES = {"loss": "loss", "unigram_kl": "KL from unigrams", "bigram_kl": "KL from bigrams"}
"""Columns that are drawn as lines, and their titles."""

ENTROPIES = {"unigram_entropy": "unigram entropy", "bigram_entropy": "bigram entropy"}
"""Columns that are drawn as horizontal rules, and their titles."""


def ngram_chart(ngrams: pd.DataFrame) -> alt.LayerChart:
    """Divergence of each checkpoint's predictions from unigrams and bigrams, and its loss next to their entropies.

    Args:
        ngrams: tokens, loss, unigram_kl, bigram_kl, unigram_entropy, bigram_entropy, from
            `crosstime.suites.ngram_divergence.ngram_divergence`.

    Raises:
        ReportError: when the table is empty, lacks a column, or no checkpoint's number of training tokens is known.

    Examples:
        >>> ngram_chart(ngrams)  # doctest: +SKIP
    """
    # Keep the checkpoints that have a position on the axis of tokens
    table = require_columns(ngrams, "n-gram", ["tokens", *LINES, *ENTROPIES])
    if table.empty:
        raise ReportError("the n-gram table has no rows to draw")
    table = table.dropna(subset="tokens")
    if table.empty:
        raise ReportError("no checkpoint's training tokens are known, so there is no axis to draw n-grams on")
    table["tokens"] = table["tokens"].astype(float)

    # One row per line and checkpoint, and one per rule
    lines = table.melt("tokens", list(LINES), "line", "nats")
    lines["line"] = lines["line"].map(LINES)
    levels = [float(table[name].iloc[0]) for name in ENTROPIES]
    rules = pd.DataFrame({"line": list(ENTROPIES.values()), "nats": levels})

    # Encode the columns
    x = TokenAxis(table["tokens"].tolist()).encoding()
    highest = padded([0.0, *lines["nats"], *rules["nats"]])[1]
    y = alt.Y("nats:Q", scale=alt.Scale(domain=[0.0, highest], nice=False))
    colour, shape = group_encodings("line", list(LINES.values()), alt.Legend(columns=3))
    tooltip = ["line:N", alt.Tooltip("tokens:Q", format=".3~s"), alt.Tooltip("nats:Q", format=".3f")]

    # Draw the lines over the rules
    base, level = alt.Chart(lines), alt.Chart(rules)
    layers = [
        level.mark_rule(color=theme.MUTED, strokeDash=[4, 3]).encode(y=y),
        level.mark_text(align="left", dx=6, color=theme.MUTED).encode(x=alt.value("width"), y=y, text="line:N"),
        base.mark_line().encode(x=x, y=y, color=colour),
        base.mark_point(filled=True, opacity=1, size=40).encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip),
    ]
    return overlay(layers).properties(width=680, height=300, usermeta=fit(panel=240, margin=160))
