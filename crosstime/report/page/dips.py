"""The section about dips: what tasks do without the features that may be to blame."""

from __future__ import annotations

import pandas as pd

from crosstime.report.about_models import about_models
from crosstime.report.expected_under_null import expected_words
from crosstime.report.numbers import decimals_for
from crosstime.report.page.figures import remark
from crosstime.report.page.markup import Child, element
from crosstime.report.page.tables import Cell, interval_cell, number_cell, table
from crosstime.report.rows import rows


def dips_section(dips: pd.DataFrame, nulls: pd.DataFrame, *, ordered: bool = True) -> list[Child]:
    """Return the section: for each dip, what its task is without features that matter there and hardly elsewhere.

    Args:
        dips, nulls: tables, see `crosstime.report.columns`; that of null models may be empty.
        ordered: whether the checkpoints are points of one training, rather than models side by side.
    """
    checkpoint = "checkpoint" if ordered else about_models("checkpoint")
    columns = ["without", "features", "task", checkpoint, "accuracy", "change"]
    columns += ["change in logit difference", "p"]
    tables: list[Child] = []

    # One table per dip
    for (task, at, other), dip in dips.groupby(["dip", "at", "other"], sort=False):
        decimals = decimals_for(dip["accuracy"])
        logit_decimals = decimals_for(dip["logit_difference_change"])

        # One row per group of ablated features, task and checkpoint
        cells: list[list[Cell | str]] = [
            [
                row.text("group"),
                number_cell(row.number("n"), 0),
                row.text("task"),
                row.text("revision"),
                number_cell(row.number("accuracy"), decimals),
                number_cell(row.number("accuracy_change"), decimals, sign=True),
                interval_cell(
                    row.number("logit_difference_change"), row.number("low"), row.number("high"), logit_decimals
                ),
                number_cell(row.number("p"), 3),
            ]
            for row in rows(dip)
        ]
        tables.append(table(columns, cells, caption=f"The dip on {task} at {at}, beside {other}"))

    introduction = (
        "Where a task does worse at one checkpoint than at others, features that matter there and hardly elsewhere "
        "may be what it suffers from: those that do harm are taken away together, on prompts that were not used to "
        "choose them. Controls are sets of as many other features: matched ones add as much to the activation, "
        "random ones are any that fire. Their intervals are over draws; p is the share of matched draws that do as "
        "much or more."
    )
    words = expected_words(nulls, "dips", "explained")
    return [
        element("p", introduction if ordered else about_models(introduction)),
        remark(f"Explained dips: {words}.") if words else None,
        *tables,
    ]
