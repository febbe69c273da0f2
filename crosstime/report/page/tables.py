"""HTML tables: numbers aligned, missing values said in words, and what sorting and filtering need."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from crosstime.report.numbers import number
from crosstime.report.page.markup import Child, Markup, element, join


@dataclass(frozen=True)
class Cell:
    """One cell: what is shown, for a number the value it is sorted by (NaN sorts last), and a width class."""

    content: Child
    value: float | int | None = None
    width: str | None = None


def numeric(value: float | int, decimals: int = 3, *, missing: str = "–", sign: bool = False) -> Cell:
    """Make a cell of one number."""
    return Cell(number(value, decimals, missing=missing, sign=sign), float(value))


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
        columns: the headings; a column other than the first is set as numbers when a cell has a value.
        rows: cells, one per column; a string is a cell of text.
        caption: what the table says, read out as its name.
        id_: the table's id.
        sortable: whether `tables.js` may sort it; without scripts the headings are plain text.
    """
    body = [[cell if isinstance(cell, Cell) else words(cell) for cell in row] for row in rows]
    numbers = [any(row[place].value is not None for row in body) for place in range(len(columns))]
    numbers[:1] = [False]  # the first column names the row, and is set as a name even where it sorts by number
    head = [
        element("th", name, scope="col", class_="number" if is_number else None)
        for name, is_number in zip(columns, numbers, strict=True)
    ]
    lines = []
    for row in body:
        cells = [
            element(
                "th" if column == 0 else "td",
                cell.content,
                scope="row" if column == 0 else None,
                class_="number" if numbers[column] else cell.width,
                data_value=_value(cell),
            )
            for column, cell in enumerate(row)
        ]
        lines.append(element("tr", cells))
    finished = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", head)),
        element("tbody", lines),
        id=id_,
        class_="sortable" if sortable else None,
    )
    return element("div", finished, class_="wide", tabindex="0", role="region", aria_label=caption)


def facts(pairs: Mapping[str, str]) -> Markup:
    """Show names and values as a definition list."""
    items = [element("div", element("dt", key), element("dd", value)) for key, value in pairs.items()]
    return element("dl", items, class_="setup")


def words(text: str) -> Cell:
    """Make a cell of text: a short name stays on one line, a long one wraps in a column of fair width."""
    return Cell(text, width="short") if len(text) <= 16 else Cell(breakable(text), width="long")


def breakable(text: str) -> Markup:
    """Return a name that may wrap after `_` and `+`, as long names of tasks and classes must in a table.

    Examples:
        >>> breakable("a_b")
        'a_<wbr>b'
    """
    pieces = re.split(r"(?<=[_+])(?=[^_+])", text)
    return join(pieces[0], *(part for piece in pieces[1:] for part in (element("wbr"), piece)))


def agreement(classes: pd.DataFrame, revisions: Sequence[str], caption: str) -> Markup:
    """Count features by their class by RelIE (rows) and by RelDec (columns), both in one order.

    Cells on the diagonal, where the two agree, are outlined; the shade follows the count.

    Args:
        classes: task, feature, class_ie, class_dec.
        revisions: the compared ones; classes are listed in their order.
        caption: what the table says.
    """
    names = sorted({*classes["class_ie"], *classes["class_dec"]}, key=lambda name: _class_order(name, list(revisions)))
    counts = pd.crosstab(classes["class_ie"], classes["class_dec"])
    counts = counts.reindex(index=names, columns=names, fill_value=0)
    most = max(1, int(counts.to_numpy().max(initial=0)))
    corner = element("th", "RelIE ↓  RelDec →", scope="col")
    lines = []
    for row in names:
        cells = [element("th", row, scope="row")]
        for column in names:
            n = int(counts.loc[row, column])
            shade = math.ceil(4 * n / most)
            same = " same" if row == column else ""
            cells.append(element("td", str(n) if n else "·", class_=f"number h{shade}{same}"))
        cells.append(element("td", str(int(counts.loc[row].sum())), class_="number total"))
        lines.append(element("tr", cells))
    sums = [element("td", str(int(counts[name].sum())), class_="number total") for name in names]
    lines.append(
        element(
            "tr",
            element("th", "all", scope="row"),
            sums,
            element("td", str(len(classes)), class_="number total"),
        )
    )
    head = element(
        "tr",
        corner,
        [element("th", name, scope="col", class_="number") for name in [*names, "all"]],
    )
    finished = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", head),
        element("tbody", lines),
        class_="agreement",
    )
    return element("div", finished, class_="wide", tabindex="0", role="region", aria_label=caption)


def _class_order(name: str, revisions: list[str]) -> tuple[int, list[int], str]:
    """Specific classes first, then combinations, then shared; undefined last."""
    rank = 3 if name == "undefined" else 2 if name == "shared" else 1 if "+" in name else 0
    parts = name.removesuffix(" only").split("+")
    places = [revisions.index(part) if part in revisions else len(revisions) for part in parts]
    return rank, places, name


def _value(cell: Cell) -> str | None:
    if cell.value is None:
        return None
    return repr(cell.value) if math.isfinite(cell.value) else ""
