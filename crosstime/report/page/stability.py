"""The section about stability: whether the strongest features stay the same under other choices."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from crosstime.report.about_models import about_models
from crosstime.report.numbers import number
from crosstime.report.page.markup import Child, element
from crosstime.report.page.tables import Cell, interval_cell, number_cell, table
from crosstime.report.rows import rows


def stability_section(stability: pd.DataFrame, compared: Sequence[str], *, ordered: bool = True) -> list[Child]:
    """Return an introduction, and a table of the agreement at each compared checkpoint for every variant.

    Args:
        stability: the table of stability, see `crosstime.report.columns`.
        compared: the compared checkpoints, in order.
        ordered: whether the checkpoints are points of one training, rather than models side by side.
    """
    sizes = " or ".join(number(k, 0) for k in dict.fromkeys(stability["k"].tolist()))
    introduction = (
        f"The {sizes} features with the largest effects at a checkpoint, and those under another choice: other "
        "prompts, one template against all others, another metric, baseline, estimator or dtype. The Jaccard index is "
        "the share of features in both sets among those in either: 1 if they are the same, 0 if none is. Intervals "
        "are over prompts. A checkpoint that has not learned the task has effects of noise, which agree with nothing."
    )

    # One row for each task and variant, one column for each checkpoint
    cells: list[list[Cell | str]] = []
    for (task, comparison, variant), group in stability.groupby(["task", "comparison", "variant"], sort=False):
        by_revision = {row.text("revision"): row for row in rows(group)}
        agreement = [
            interval_cell(row.number("jaccard"), row.number("jaccard_low"), row.number("jaccard_high"), 2)
            if (row := by_revision.get(revision)) is not None
            else Cell("–", float("nan"))
            for revision in compared
        ]
        prompts = number_cell(float(group["n_prompts"].iloc[0]), 0)
        cells.append([str(task), str(comparison), str(variant), *agreement, prompts])
    columns = ["task", "comparison", "variant", *compared, "prompts"]
    return [
        element("p", introduction if ordered else about_models(introduction)),
        table(columns, cells, caption="Jaccard index of the strongest features", id_="stability-table", sortable=True),
    ]
