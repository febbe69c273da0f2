"""How results display themselves: one line at a Python prompt; that line and the tables behind it in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from crosstime.report.page.markup import Markup

MAX_ROWS = 12
"""Rows of a table that a notebook shows; the caption says how many rows the table has."""


class Display(ABC):
    """A result that displays itself as one line at a prompt, and as that line and its tables in a notebook.

    Dataclasses that derive from it are declared with ``repr=False``, since the generated ``__repr__`` would print all
    numbers of all tensors.

    Examples:
        >>> class Comparison(Display):
        ...     def headline(self):
        ...         return "2 < 3"
        >>> Comparison()
        Comparison: 2 < 3
        >>> "2 &lt; 3" in Comparison()._repr_html_()
        True
    """

    @abstractmethod
    def headline(self) -> str:
        """The result in one line of plain text; must be quick to compute."""

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables behind the result by caption; a notebook shows their first rows."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.headline()}"

    def _repr_html_(self) -> str:
        from crosstime.report.page.markup import element

        name = element("strong", type(self).__name__)
        tables = [html_table(table, caption) for caption, table in self.tables().items()]
        return element("div", element("p", name, ": ", self.headline()), tables)


def html_table(table: pd.DataFrame, caption: str, *, max_rows: int = MAX_ROWS) -> Markup:
    """The first rows of a table as HTML, with escaped text, and the same number of decimals throughout a column.

    Args:
        table: any table; its index is not shown.
        caption: what the table holds.
        max_rows: number of rows to show.

    Examples:
        >>> import pandas as pd
        >>> "&lt;b&gt;" in html_table(pd.DataFrame({"token": ["<b>"]}), "tokens")
        True
    """
    from crosstime.report.page.markup import element

    columns = [_cells(table[name].iloc[:max_rows]) for name in table.columns]
    head = element("tr", [element("th", str(name)) for name in table.columns])
    rows = [element("tr", [element("td", cell) for cell in row]) for row in zip(*columns, strict=True)]
    if len(table) > max_rows:
        caption = f"{caption} (the first {max_rows} of {len(table):,} rows)"
    return element("table", element("caption", caption), element("thead", head), element("tbody", rows))


def _cells(values: pd.Series) -> list[str]:
    """The text of every cell of a column."""
    import pandas as pd

    from crosstime.report.numbers import MISSING, decimals_for, number

    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return [MISSING if pd.api.types.is_scalar(value) and pd.isna(value) else str(value) for value in values]
    numbers = [float("nan") if pd.isna(value) else float(value) for value in values]
    decimals = 0 if pd.api.types.is_integer_dtype(values) else decimals_for(numbers)
    return [number(value, decimals) for value in numbers]
