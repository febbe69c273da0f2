"""HTML tables with aligned numbers, words in place of missing values, and what sorting and filtering need."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from crosstime.report.numbers import number, with_interval
from crosstime.report.page.markup import Child, Markup, element, join

SHORT = 16
"""Characters of a name that stays on one line."""

SHADES = 4
"""Steps of the shade of a cell by its count, defined in ``style.css``."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        content: what is shown.
        value: number that the cell is sorted by, NaN last; None for text.
        width: width class of a column of text: ``short``, ``long`` or None.
    """

    content: Child
    value: float | int | None = None
    width: str | None = None


def number_cell(value: float | int, decimals: int = 3, *, missing: str = "–", sign: bool = False) -> Cell:
    """Return a cell that shows one number and is sorted by it."""
    return Cell(number(value, decimals, missing=missing, sign=sign), float(value))


def interval_cell(value: float, low: float, high: float, decimals: int = 3) -> Cell:
    """Return a cell of a number with its interval, sorted by the number."""
    return Cell(with_interval(value, low, high, decimals), value)


def text_cell(text: str) -> Cell:
    """Return a cell of text: a short name stays on one line, a long one wraps in a column of limited width."""
    return Cell(text, width="short") if len(text) <= SHORT else Cell(breakable(text), width="long")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell | str]],
    *,
    caption: str,
    id_: str | None = None,
    sortable: bool = False,
) -> Markup:
    """Build a table in a frame that scrolls sideways on a narrow screen and can be reached by keyboard.

    Args:
        columns: the headings; a column other than the first is aligned as numbers if one of its cells has a value.
        rows: cells, one per column; a string is a cell of text.
        caption: what the table shows; also its accessible name.
        id_: id of the table.
        sortable: whether `tables.js` may sort the table.
    """
    body = [[cell if isinstance(cell, Cell) else text_cell(cell) for cell in row] for row in rows]

    # The first column names the row, and is aligned as text even if it is sorted by number
    numeric = [any(row[column].value is not None for row in body) for column in range(len(columns))]
    numeric[:1] = [False]

    headings = [
        element("th", name, scope="col", class_="number" if is_numeric else None)
        for name, is_numeric in zip(columns, numeric, strict=True)
    ]
    lines = []
    for row in body:
        cells = [
            element(
                "th" if column == 0 else "td",
                cell.content,
                scope="row" if column == 0 else None,
                class_="number" if numeric[column] else cell.width,
                data_value=_sort_key(cell),
            )
            for column, cell in enumerate(row)
        ]
        lines.append(element("tr", cells))
    class_ = "sortable" if sortable else None
    return _framed(caption, element("tr", headings), lines, id_=id_, class_=class_)


def definitions(pairs: Mapping[str, str]) -> Markup:
    """Return names and values as a definition list."""
    items = [element("div", element("dt", key), element("dd", value)) for key, value in pairs.items()]
    return element("dl", items, class_="setup")


def breakable(text: str) -> Markup:
    """Return a name that may wrap after `_` and `+`, as long names of tasks and classes must in a table.

    Examples:
        >>> breakable("a_b")
        'a_<wbr>b'
    """
    return join(*re.split(r"(?<=[_+])(?=[^_+])", text), separator=element("wbr"))


def agreement(
    classes: pd.DataFrame, revisions: Sequence[str], caption: str, expected: Mapping[str, str] | None = None
) -> Markup:
    """Cross-tabulate features by their class by RelIE (rows) and by RelDec (columns), in the same order.

    Cells on the diagonal, where both agree, are outlined; the shade of a cell follows its count.

    Args:
        classes: task, feature, class_ie, class_dec.
        revisions: the compared revisions, which order the classes.
        caption: what the table shows.
        expected: for each class by RelIE, how many features are expected to have it under the null; empty or None
            without null models.
    """
    names = sorted({*classes["class_ie"], *classes["class_dec"]}, key=lambda name: _class_order(name, list(revisions)))
    counts = pd.crosstab(classes["class_ie"], classes["class_dec"])
    counts = counts.reindex(index=names, columns=names, fill_value=0)
    largest = max(1, int(counts.to_numpy().max(initial=0)))

    # One row per class by RelIE, ending with its total
    lines = []
    for row, row_counts in zip(names, counts.to_numpy().tolist(), strict=True):
        cells = [element("th", row, scope="row")]
        for column, count in zip(names, row_counts, strict=True):
            diagonal = " same" if row == column else ""
            shade = f"number h{math.ceil(SHADES * count / largest)}{diagonal}"
            cells.append(element("td", str(count) if count else "·", class_=shade))
        cells.append(element("td", str(sum(row_counts)), class_="number total"))
        if expected:
            cells.append(element("td", expected.get(row, "–"), class_="number"))
        lines.append(element("tr", cells))

    # The last row holds the totals of the columns
    totals = [element("td", str(total), class_="number total") for total in counts.to_numpy().sum(axis=0).tolist()]
    overall = element("td", str(len(classes)), class_="number total")
    unknown = element("td", "", class_="number") if expected else None
    lines.append(element("tr", element("th", "all", scope="row"), totals, overall, unknown))

    corner = element("th", "RelIE ↓  RelDec →", scope="col")
    headings = [element("th", name, scope="col", class_="number") for name in [*names, "all"]]
    headings += [element("th", "RelIE, expected under the null", scope="col", class_="number")] if expected else []
    return _framed(caption, element("tr", corner, headings), lines, class_="agreement")


def _framed(
    caption: str, headings: Markup, lines: Sequence[Markup], *, id_: str | None = None, class_: str | None = None
) -> Markup:
    """Return a table in a region that scrolls and is named by its caption."""
    content = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", headings),
        element("tbody", lines),
        id=id_,
        class_=class_,
    )
    return element("div", content, class_="wide", tabindex="0", role="region", aria_label=caption)


def _class_order(name: str, revisions: list[str]) -> tuple[int, list[int], str]:
    """Return a sort key: specific classes first, then combinations, then shared, then undefined."""
    rank = 3 if name == "undefined" else 2 if name == "shared" else 1 if "+" in name else 0
    parts = name.removesuffix(" only").split("+")
    indices = [revisions.index(part) if part in revisions else len(revisions) for part in parts]
    return rank, indices, name


def _sort_key(cell: Cell) -> str | None:
    if cell.value is None:
        return None
    return repr(cell.value) if math.isfinite(cell.value) else ""
