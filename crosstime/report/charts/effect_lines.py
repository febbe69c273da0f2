"""Which of many effect lines stand out, in which colour, and where their labels go."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import labels, theme
from crosstime.report.charts.panels import padded
from crosstime.report.columns import ERROR_TERM, feature_name, in_order
from crosstime.report.numbers import interval, number

LABELLED = 6
"""Features of a task that get a label, unless a chart is asked for more or fewer."""

LABEL = 13.0
"""Height in pixels of a label and the space below it."""


def effect_lines(
    effects: pd.DataFrame, order: Sequence[str], *, labelled: int, height: int
) -> tuple[pd.DataFrame, list[float], str]:
    """Prepare an effects table for drawing: names, colours, kinds and label positions.

    Args:
        effects: task, feature, revision, ie, low, high, checked.
        order: the compared revisions; rows of others are dropped.
        labelled: how many features of a task get a label at least.
        height: of a panel in pixels, for which labels are spread.

    Returns:
        The table with the columns name, interval, colour, ink, kind ("main", "context" or "error"), label
        and label_y; the domain of the effects; and a note where the error term was left out, or "".

    Raises:
        ReportError: when no row is of a compared revision.
    """
    table = effects
    table = table[table["revision"].isin(list(order))].copy()
    if table.empty:
        raise ReportError(f"the effects table holds none of the checkpoints {', '.join(order)}")
    error = table["feature"] == ERROR_TERM
    largest, largest_error = table.loc[~error, "ie"].abs().max(), table.loc[error, "ie"].abs().max()
    note = ""
    if largest_error > 3 * largest:
        note = f"error term off the scale: |IE| up to {number(float(largest_error), 2)}"
        table = table[~error].copy()
    tasks = in_order(table["task"])
    table["name"] = table["feature"].map(feature_name)
    table["interval"] = [interval(low, high) for low, high in zip(table["low"], table["high"], strict=True)]
    top = {task: _strongest(rows, labelled) for task, rows in table.groupby("task", sort=False)}
    colour_of = dict(zip(coloured(table, labelled=labelled), theme.PALETTE, strict=False))
    table["colour"] = [colour_of.get(feature, theme.FAINT) for feature in table["feature"]]
    table.loc[table["feature"] == ERROR_TERM, "colour"] = theme.MUTED
    table["ink"] = [theme.MUTED if colour == theme.FAINT else colour for colour in table["colour"]]
    table["kind"] = [
        "error" if feature == ERROR_TERM else "main" if feature in colour_of else "context"
        for feature in table["feature"]
    ]
    main = table[table["kind"] == "main"]
    low, high = padded([*table["ie"], *main["low"], *main["high"], 0.0])
    table["label"], table["label_y"] = "", math.nan
    for task in tasks:
        shown = {*top[task], *colour_of, ERROR_TERM}
        ends = table[(table["task"] == task) & table["feature"].isin(shown)].dropna(subset="ie")
        ends = ends[ends["revision"] == order[-1]]
        spaced = labels.spread(ends["ie"].tolist(), (high - low) * LABEL / height, low, high)
        table.loc[ends.index, "label"] = ends["name"]
        table.loc[ends.index, "label_y"] = spaced
    return table, [low, high], note


def coloured(effects: pd.DataFrame, *, labelled: int = LABELLED) -> list[int]:
    """Return the features that have a colour, in the palette's order: the strongest of every task in turn.

    Args:
        effects: task, feature, revision, ie, low, high.
        labelled: how many features of a task come into question.
    """
    tops = [_strongest(rows, labelled) for _, rows in effects.groupby("task", sort=False)]
    return _in_turn(tops)[: len(theme.PALETTE)]


def _strongest(rows: pd.DataFrame, n: int) -> list[int]:
    """Features by their largest |IE| at any checkpoint, without the error term."""
    sizes = rows[rows["feature"] != ERROR_TERM].assign(size=lambda table: table["ie"].abs())
    sizes = sizes.groupby("feature", sort=False)["size"].max().dropna()
    return [int(feature) for feature in sizes.sort_values(ascending=False, kind="stable").index[:n]]


def _in_turn(lists: Sequence[Sequence[int]]) -> list[int]:
    """Take the first of every list, then the second of every list, ...; each value once."""
    longest = max((len(values) for values in lists), default=0)
    return list(dict.fromkeys(values[i] for i in range(longest) for values in lists if i < len(values)))
