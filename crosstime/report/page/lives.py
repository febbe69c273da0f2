"""Which features emerged and which were given up: one row for each task and life."""

from __future__ import annotations

import pandas as pd

from crosstime.report.numbers import number
from crosstime.report.page.features import feature_link
from crosstime.report.page.markup import Markup, join
from crosstime.report.page.tables import Cell, table

NAMED = 12
"""Features of one life that are listed; there is a card of each in the browser all the same."""


def lives_table(lives: pd.DataFrame) -> Markup | None:
    """Each life of the selected features, by their effects on a task, with the features that have it.

    Args:
        lives: task, feature, life_cycle, label and support, the features of a task in order of importance.

    Returns:
        A table: task, life, how many features, how sure their lives are on average, which they are; None without rows.
    """
    rows = []
    for (task, label), own in lives.groupby(["task", "label"], sort=False):
        share = len(own) / int((lives["task"] == task).sum())
        rows.append(
            [
                str(task),
                str(label),
                Cell(f"{len(own)} ({number(share, 2)})", float(len(own))),
                Cell(number(own["support"].mean(), 2), float(own["support"].mean())),
                Cell(_links(own["feature"].tolist()), width="long"),
            ]
        )
    columns = ["task", "life by effect", "features (share)", "support", "which"]
    return table(columns, rows, caption="What became of the selected features") if rows else None


def _links(features: list[int]) -> Markup:
    parts: list[Markup | str] = []
    for feature in features[:NAMED]:
        parts += [", "] * bool(parts) + [feature_link(feature)]
    if len(features) > NAMED:
        parts.append(f" and {len(features) - NAMED} more")
    return join(*parts)
