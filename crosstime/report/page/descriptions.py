"""The section about descriptions by a language model, of the run and of its null models."""

from __future__ import annotations

import pandas as pd

from crosstime.report.about_models import about_models
from crosstime.report.columns import RUN, feature_name
from crosstime.report.page.features import feature_link
from crosstime.report.page.markup import Child, Markup, element
from crosstime.report.page.tables import Cell, interval_cell, number_cell, table
from crosstime.report.rows import rows

CAPTION = (
    "Complexity of features against their onset: the area of a point is the number of features, and the line joins "
    "their means. One panel for the run and one for each null model."
)
"""Caption of the chart."""


def descriptions_section(
    descriptions: pd.DataFrame, complexity: pd.DataFrame, chart: Markup | None, *, ordered: bool = True
) -> list[Child]:
    """Return the section: means and correlations beside those of the null models, and the described features.

    Args:
        descriptions, complexity: tables, see `crosstime.report.columns`.
        chart: of complexity against onset, if there is one.
        ordered: whether the checkpoints are points of one training, rather than models side by side.
    """
    introduction = (
        "A language model described features from texts on which they fire, and rated their complexity from 1 (a "
        "token) to 5 (an abstract idea). Its descriptions were scored on other texts: detection is how well they tell "
        "texts on which the feature fires from others, fuzzing how well they tell the tokens on which it fires from "
        "others; guessing gives 0.5. The same was asked about the features of each null model. Means and correlations "
        "are over features drawn at random, with intervals over features."
    )
    means = ("complexity", "detection", "fuzzing")
    cells: list[list[Cell | str]] = []
    for row in rows(descriptions):
        bounded = [(row.number(name), row.number(f"{name}_low"), row.number(f"{name}_high")) for name in means]
        correlations = [
            cell
            for name in (("onset", "peak") if ordered else ())
            for cell in (
                interval_cell(row.number(f"{name}_r"), row.number(f"{name}_low"), row.number(f"{name}_high"), 2),
                number_cell(row.number(f"{name}_p"), 4),
            )
        ]
        cells.append(
            [
                row.text("source"),
                Cell(f"{row.number('described'):,.0f} of {row.number('asked'):,.0f}", row.number("described")),
                *(interval_cell(*values, 2) for values in bounded),
                number_cell(row.number("detection_f1"), 2),
                number_cell(row.number("fuzzing_f1"), 2),
                *correlations,
            ]
        )
    columns = ["features of", "described", *means, "F1, detection", "F1, fuzzing"]
    columns += ["r with onset", "p", "r with peak", "p"] if ordered else []
    caption = "Descriptions of the run's features beside those of null models"
    return [
        element("p", introduction if ordered else about_models(introduction)),
        table(columns, cells, caption=caption, id_="description-table", sortable=True),
        chart,
        _described(complexity[complexity["source"] == RUN], ordered=ordered),
    ]


def _described(features: pd.DataFrame, *, ordered: bool) -> Markup:
    """The described features of the run, folded."""
    cells: list[list[Cell | str]] = [
        [
            _name(row.integer("feature"), selected=row.number("selected") == 1),
            row.text("description"),
            number_cell(row.number("complexity"), 0),
            *([row.text("onset")] if ordered else []),
            number_cell(row.number("detection"), 2),
            number_cell(row.number("fuzzing"), 2),
        ]
        for row in rows(features)
    ]
    columns = ["feature", "description", "complexity", *(["onset"] if ordered else []), "detection", "fuzzing"]
    listed = table(columns, cells, caption="Described features", id_="described-table", sortable=True)
    return element("details", element("summary", f"All {len(cells)} described features as a table"), listed)


def _name(feature: int, *, selected: bool) -> Cell:
    """The name of a feature; only those that the run selected have a card to link to."""
    return Cell(feature_link(feature) if selected else feature_name(feature), float(feature))
