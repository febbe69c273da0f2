"""The section about rows of parameters: the rows on which each feature fires most strongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from crosstime.report.page.context import ROWS, Context
from crosstime.report.page.features import feature_link
from crosstime.report.page.figures import remark
from crosstime.report.page.markup import Child, Markup, element
from crosstime.report.page.tables import Cell, table
from crosstime.report.page.visible_parts import visible_parts

if TYPE_CHECKING:
    from crosstime.report.page.report_input import ReportInput

LIFE_CYCLES = ("life_cycle_dec", "sharing_dec")
"""Columns of facts by which the features are grouped, of which a report has one."""


def rows_section(report: ReportInput) -> list[Child]:
    """Return a table with a row for each feature that is shown: its life cycle, and its strongest rows.

    Args:
        report: the checked tables.
    """
    column = next((name for name in LIFE_CYCLES if name in report.facts), None)
    cells: list[list[Cell | str]] = []
    for fact in report.facts.to_dict("records"):
        feature = int(fact["feature"])
        strongest = _labels(report.contexts, feature)
        cells.append(
            [
                Cell(feature_link(feature), float(feature)),
                *([] if column is None else [str(fact[column])]),
                *([str(fact["onset"])] if "onset" in fact else []),
                Cell(strongest, width="long"),
            ]
        )
    columns = ["feature", *([] if column is None else [report.words("life cycle")])]
    columns += ["onset"] if "onset" in report.facts else []
    caption = f"Rows of {report.rows} on which features fire most strongly"
    introduction = (
        f"A feature is active on the rows of {report.rows} that it helps to describe. Listed are the features that "
        "write most of all rows, some of each life cycle, and the rows on which each fires most strongly, the "
        "strongest first."
    )
    if not cells:
        return [remark("No feature fires on any row.")]
    return [
        element("p", report.words(introduction)),
        table([*columns, "strongest rows"], cells, caption=caption, id_="rows-table", sortable=True),
    ]


def _labels(contexts: Mapping[int, Sequence[Context]], feature: int) -> Markup:
    """Return the labels of a feature's strongest rows, each in a frame of its own, so that spaces are seen."""
    chips: list[Markup | str] = []
    for context in contexts.get(feature, ()):
        for label in context.tokens if context.source == ROWS else ():
            # Text and signs take turns
            parts = [
                element("span", part, class_="sign") if place % 2 else part
                for place, part in enumerate(visible_parts(label))
            ]
            chips += [element("bdi", parts, class_="chip"), " "]
    return element("span", chips)
