"""What became of the selected features, in one row per task and life cycle."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from crosstime.report.expected_under_null import expected_number, expected_under_null
from crosstime.report.numbers import number
from crosstime.report.page.features import feature_link
from crosstime.report.page.markup import Markup, join
from crosstime.report.page.tables import Cell, table

LISTED = 12
"""Features of one life cycle that are listed; the browser has a card of every feature."""


def lives_table(
    lives: pd.DataFrame, nulls: pd.DataFrame, *, ordered: bool = True, replicated: Collection[int] | None = None
) -> Markup | None:
    """Return a table of the life cycles of the selected features by their effects, with the features that have them.

    Args:
        lives: task, feature, life_cycle, label and support, the features of a task in order of importance.
        nulls: the table of null models; empty without any.
        ordered: whether the checkpoints are points of one training, rather than models side by side.
        replicated: the features that most seeds have, which alone are listed; None without seeds.

    Returns:
        A table of task, life cycle, number of features, their mean support, and the features; with null models, also of
        how many features of the life cycle are expected under the null; with seeds, of how many are in most of them.
        None if `lives` is empty.
    """
    rows: list[list[Cell | str]] = []
    for (task, label), group in lives.groupby(["task", "label"], sort=False):
        share = len(group) / int((lives["task"] == task).sum())
        support = float(group["support"].mean())
        features = group["feature"].tolist()
        listed = features if replicated is None else [feature for feature in features if feature in replicated]
        rows.append(
            [
                str(task),
                str(label),
                Cell(f"{len(group)} ({number(share, 2)})", float(len(group))),
                Cell(number(support, 2), support),
                *([] if nulls.empty else [_expected(nulls, str(task), str(group["life_cycle"].iloc[0]))]),
                *([] if replicated is None else [Cell(str(len(listed)), float(len(listed)))]),
                Cell(_links(listed), width="long"),
            ]
        )
    columns = ["task", "life by effect" if ordered else "models by effect", "features (share)", "support"]
    columns += [] if nulls.empty else ["expected under the null"]
    columns += ["which"] if replicated is None else ["in most seeds", "which of them"]
    caption = "What became of the selected features" if ordered else "Which models have the selected features"
    return table(columns, rows, caption=caption) if rows else None


def _expected(nulls: pd.DataFrame, task: str, life_cycle: str) -> Cell:
    """How many of the task's features are expected to have the life cycle where none has it, at any checkpoint."""
    numbers = expected_under_null(nulls, f"IE: {task}", life_cycle)
    return Cell("–") if numbers is None else Cell(f"{life_cycle}: {expected_number(*numbers)}", numbers[0])


def _links(features: list[int]) -> Markup:
    links = join(*(feature_link(feature) for feature in features[:LISTED]), separator=", ")
    return join(links, f" and {len(features) - LISTED} more") if len(features) > LISTED else links
