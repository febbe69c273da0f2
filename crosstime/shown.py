"""Results show themselves: a line at a Python prompt, that line and the tables behind it in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from crosstime.report.page.markup import Markup

MOST = 12
"""Rows of a table that a notebook shows; how many there are stands below it."""


class Shown(ABC):
    """A result that a notebook shows as a line and tables, and a prompt as that line.

    Dataclasses are to be declared with ``repr=False``: the one that they would make prints every number of every
    tensor.

    Examples:
        >>> class Found(Shown):
        ...     def headline(self):
        ...         return "2 < 3"
        >>> Found()
        Found: 2 < 3
        >>> "2 &lt; 3" in Found()._repr_html_()
        True
    """

    @abstractmethod
    def headline(self) -> str:
        """What it is or found, in a line of plain text; quick to say."""

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables behind it by caption, of which a notebook shows the first rows."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.headline()}"

    def _repr_html_(self) -> str:
        from crosstime.report.page.markup import element

        name = element("strong", type(self).__name__)
        tables = [html_table(table, caption) for caption, table in self.tables().items()]
        return element("div", element("p", name, ": ", self.headline()), tables)


def html_table(table: pd.DataFrame, caption: str, *, most: int = MOST) -> Markup:
    """The first rows of a table as HTML: text escaped, the numbers of a column with the same decimals.

    Args:
        table: any; its index is not shown.
        caption: what it holds.
        most: rows.

    Examples:
        >>> "&lt;b&gt;" in html_table(pd.DataFrame({"token": ["<b>"]}), "tokens")
        True
    """
    from crosstime.report.page.markup import element

    columns = [_cells(table[name].iloc[:most]) for name in table.columns]
    head = element("tr", [element("th", str(name)) for name in table.columns])
    rows = [element("tr", [element("td", cell) for cell in row]) for row in zip(*columns, strict=True)]
    note = f"{caption} (the first {most} of {len(table):,} rows)" if len(table) > most else caption
    return element("table", element("caption", note), element("thead", head), element("tbody", rows))


def _cells(values: pd.Series) -> list[str]:
    from crosstime.report.numbers import MISSING, decimals_for, number

    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return [MISSING if pd.api.types.is_scalar(value) and pd.isna(value) else str(value) for value in values]
    numbers = [float("nan") if pd.isna(value) else float(value) for value in values]
    whole = pd.api.types.is_integer_dtype(values)
    return [number(value, 0 if whole else decimals_for(numbers)) for value in numbers]
