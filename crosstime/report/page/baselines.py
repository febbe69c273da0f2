"""The section that compares the crosscoder with other dictionaries."""

from __future__ import annotations

import pandas as pd

from crosstime.report.charts.faithfulness import WIDEST_INTERVAL
from crosstime.report.numbers import with_interval
from crosstime.report.page.markup import Child, element
from crosstime.report.page.tables import Cell, number_cell, table
from crosstime.report.rows import rows

CAPTION = (
    "Left: share of the top n features in the sum of |IE| over all features and the error term. Middle: share of the "
    "task's metric with the top n features alone and everything else, the error term included, at its mean. Right: "
    "share that is left without them. Shares with an interval wider than "
    f"{WIDEST_INTERVAL:g}, as at a checkpoint that does not do the task, are not drawn."
)
"""Caption of the chart."""


def baselines_section(baselines: pd.DataFrame, *, ordered: bool = True) -> list[Child]:
    """Return an introduction, and a table of the areas under the curves of each dictionary.

    Args:
        baselines: the table of baselines, see `crosstime.report.columns`.
        ordered: whether the checkpoints are points of one training, rather than models side by side.
    """
    introduction = (
        "The crosscoder beside simpler dictionaries of the same activations. Features are ranked by their effects on "
        "one half of the prompts and tested on the other. CPR is the area under the curve of faithfulness over the "
        "number of features (higher is better), CMD the area between this curve and 1 (lower is better). Differences "
        "are crosscoder minus dictionary: where the interval of CPR lies above zero, the crosscoder carries more of "
        "the task with as few features."
    )

    # One row for each task, checkpoint and dictionary
    curves = baselines.drop_duplicates(["task", "revision", "dictionary"])
    cells: list[list[Cell | str]] = []
    for row in rows(curves):
        areas: list[Cell] = []
        for name in ("cpr", "cmd", "cpr_difference", "cmd_difference"):
            value, low, high = (row.number(f"{name}{end}") for end in ("", "_low", "_high"))
            is_own = name.endswith("_difference") and row.text("dictionary") == "crosscoder"
            areas.append(Cell("–", float("nan")) if is_own else Cell(with_interval(value, low, high, 2), value))
        cells.append(
            [
                row.text("task"),
                row.text("revision"),
                row.text("dictionary"),
                number_cell(row.number("size"), 0),
                number_cell(row.number("l0"), 1),
                *areas,
            ]
        )
    columns = [
        "task",
        "checkpoint" if ordered else "model",
        "dictionary",
        "features",
        "per token",
        "CPR",
        "CMD",
        "Δ CPR",
        "Δ CMD",
    ]
    caption = "Areas of the curves of faithfulness"
    return [
        element("p", introduction),
        table(columns, cells, caption=caption, id_="baselines-table", sortable=True),
    ]
