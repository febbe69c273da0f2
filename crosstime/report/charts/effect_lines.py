"""Which of many effect lines stand out, in which colour, and where their labels go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.charts import labels, theme
from crosstime.report.charts.panels import interval_column, padded
from crosstime.report.columns import ERROR_TERM, feature_name
from crosstime.report.numbers import number

LABELLED = 6
"""Default number of features per task that are labelled."""

LABEL = 13.0
"""Height in pixels of a label and the space below it."""

FLATTENING = 3.0
"""The error term is omitted when it exceeds the largest feature by more than this factor."""


class EffectLines(NamedTuple):
    """An effects table that is ready to draw.

    Attributes:
        table: the rows with the additional columns name, interval, colour, ink, kind ("main", "context" or "error"),
            label and label_y.
        domain: lower and upper end of the axis of effects.
        note: what was omitted, or the empty string.
    """

    table: pd.DataFrame
    domain: list[float]
    note: str


def effect_lines(
    effects: pd.DataFrame, order: Sequence[str], *, labelled: int, height: int, ordered: bool = True
) -> EffectLines:
    """Choose names, colours, kinds and label positions for the lines of an effects table.

    Args:
        effects: task, feature, revision, ie, low, high, as `check_table` returns them.
        order: the compared revisions; rows of other checkpoints are dropped.
        labelled: least number of features per task to label.
        height: height of a panel in pixels, for which the labels are spread.
        ordered: whether lines join the checkpoints, so that a label at the last one names a line. Without lines, every
            model has labels of its own strongest features.

    Raises:
        ReportError: when the table has no row of a compared revision.
    """
    table = effects[effects["revision"].isin(list(order))].copy()
    if table.empty:
        raise ReportError(f"the effects table holds none of the checkpoints {', '.join(order)}")
    table, note = _without_flattening_error(table)
    table["name"] = table["feature"].map(feature_name)
    table["interval"] = interval_column(table)

    # Colour the strongest features of all tasks; the others are context
    colour_of = dict(zip(coloured_features(table, labelled=labelled), theme.PALETTE, strict=False))
    table["colour"] = [colour_of.get(feature, theme.FAINT) for feature in table["feature"]]
    table.loc[table["feature"] == ERROR_TERM, "colour"] = theme.MUTED
    table["ink"] = [theme.MUTED if colour == theme.FAINT else colour for colour in table["colour"]]
    table["kind"] = [
        "error" if feature == ERROR_TERM else "main" if feature in colour_of else "context"
        for feature in table["feature"]
    ]

    # The axis holds all effects, the intervals of the coloured ones, and zero
    main = table[table["kind"] == "main"]
    low, high = padded([*table["ie"], *main["low"], *main["high"], 0.0])

    # Label the lines at the last checkpoint, or the points of every model, spread so that no two labels overlap
    table["label"], table["label_y"] = "", math.nan
    for _, rows in table.groupby("task", sort=False):
        for revision in order[-1:] if ordered else order:
            points = rows[rows["revision"] == revision].dropna(subset="ie")
            features = {*_strongest(rows, labelled), *colour_of} if ordered else {*_strongest(points, labelled)}
            ends = points[points["feature"].isin({*features, ERROR_TERM})]
            table.loc[ends.index, "label"] = ends["name"]
            heights = labels.spread(ends["ie"].tolist(), (high - low) * LABEL / height, low, high)
            table.loc[ends.index, "label_y"] = heights
    return EffectLines(table, [low, high], note)


def coloured_features(effects: pd.DataFrame, *, labelled: int = LABELLED) -> list[int]:
    """Return the features that have a colour, in the order of the palette: the strongest of each task in turn.

    Args:
        effects: task, feature, revision, ie, low, high.
        labelled: number of features per task that are considered.
    """
    strongest = [_strongest(rows, labelled) for _, rows in effects.groupby("task", sort=False)]
    return _interleave(strongest)[: len(theme.PALETTE)]


def _without_flattening_error(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Drop the error term if it is so large that it would flatten the features, and say so."""
    is_error = table["feature"] == ERROR_TERM
    largest, largest_error = table.loc[~is_error, "ie"].abs().max(), table.loc[is_error, "ie"].abs().max()
    if not largest_error > FLATTENING * largest:
        return table, ""
    return table[~is_error].copy(), f"error term off the scale: |IE| up to {number(float(largest_error), 2)}"


def _strongest(rows: pd.DataFrame, n: int) -> list[int]:
    """Return the n features with the largest |IE| at any checkpoint, without the error term."""
    features = rows[rows["feature"] != ERROR_TERM]
    sizes = features["ie"].abs().groupby(features["feature"], sort=False).max().dropna()
    return [int(feature) for feature in sizes.sort_values(ascending=False, kind="stable").index[:n]]


def _interleave(lists: Sequence[Sequence[int]]) -> list[int]:
    """Return the first value of every list, then the second of every list, ..., each value once."""
    longest = max((len(values) for values in lists), default=0)
    return list(dict.fromkeys(values[i] for i in range(longest) for values in lists if i < len(values)))
