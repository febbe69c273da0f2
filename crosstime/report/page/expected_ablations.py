"""Beside each ablation, how many features of the class of what is ablated are expected under the null."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from crosstime.report.expected_under_null import expected_number, expected_under_null
from crosstime.report.page.tables import Cell
from crosstime.report.rows import Row, rows

EXPECTED_NOTE = (
    "Of this class, expected under the null: how many of the features selected on the task would be found to have the "
    "class of the ablated set, or of the ablated feature, if none had it."
)


@dataclass(frozen=True)
class ExpectedAblations:
    """Expected numbers for the rows of the table of ablations.

    Attributes:
        nulls, classes: tables, see `crosstime.report.columns`.
    """

    nulls: pd.DataFrame = field(repr=False)
    classes: pd.DataFrame = field(repr=False)

    def cell(self, ablation: Row) -> Cell:
        """How many features of the class of an ablated feature or set are expected; a dash for sets of no class."""
        task, kind = ablation.text("task"), ablation.text("kind")
        name = ablation.text("features")
        class_ = self._class_of.get((task, name)) if kind == "single" else name.rpartition(" (")[0]
        if class_ is None or kind == "random":
            return Cell("–", math.nan)
        numbers = expected_under_null(self.nulls, f"RelIE: {task}", class_)
        return Cell("–", math.nan) if numbers is None else Cell(f"{class_}: {expected_number(*numbers)}", numbers[0])

    @cached_property
    def _class_of(self) -> dict[tuple[str, str], str]:
        """The class by RelIE of each feature on each task."""
        return {(row.text("task"), row.text("feature")): row.text("class_ie") for row in rows(self.classes)}
