"""Typed access to the rows of a table, for code that writes one line of HTML or one mark per row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd


class Row:
    """One row of a table, whose cells are read as text or as numbers.

    Examples:
        >>> row = next(rows(pd.DataFrame({"task": ["agreement"], "accuracy": [0.5]})))
        >>> row.text("task"), row.number("accuracy")
        ('agreement', 0.5)
    """

    def __init__(self, cells: Mapping[str, str | float | int]) -> None:
        self._cells = cells

    def text(self, column: str) -> str:
        """Return a cell as text."""
        return str(self._cells[column])

    def number(self, column: str) -> float:
        """Return a cell as a float; NaN where the value is missing."""
        return float(self._cells[column])

    def integer(self, column: str) -> int:
        """Return a cell of whole numbers, such as the number of a feature."""
        return int(self._cells[column])


def rows(frame: pd.DataFrame) -> Iterator[Row]:
    """Iterate over the rows of a table."""
    names = [str(name) for name in frame.columns]
    columns = [frame[name].tolist() for name in frame.columns]
    for cells in zip(*columns, strict=True):
        yield Row(dict(zip(names, cells, strict=True)))
