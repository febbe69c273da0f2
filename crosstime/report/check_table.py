"""Validate the tables of a report before anything is drawn, so that the charts may assume clean columns."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.columns import COLUMNS, TEXT, TOP

DEFAULTS: dict[str, dict[str, str | float]] = {
    "faithfulness": {"features": TOP},
    "evaluation": {"fve_without_outliers": math.nan, "outliers": 0, "top_norm_share": math.nan},
    "replication": {"same_presence": math.nan},
    "ablation": dict.fromkeys(("low", "high", "accuracy_change_low", "accuracy_change_high"), math.nan),
}
"""Optional columns of each table, and the value they are filled with when they are absent."""


def check_table(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return a copy of `frame` with exactly the columns of `table`: names as text, the rest as floats.

    Infinities become NaN, because neither a chart nor a table can place them.

    Args:
        frame: the rows; additional columns are dropped.
        table: name of the table, a key of `COLUMNS`.

    Raises:
        ReportError: when a column is missing, or a numeric column holds something else than numbers.

    Examples:
        >>> check_table(effects, "effects")["feature"].dtype  # doctest: +SKIP
        dtype('int64')
    """
    # Fill in the optional columns
    for name, default in DEFAULTS.get(table, {}).items():
        if name not in frame.columns:
            frame = frame.assign(**{name: default})

    # Reject a table that lacks a column, with the nearest name among those it has
    missing = [name for name in COLUMNS[table] if name not in frame.columns]
    if missing:
        near = difflib.get_close_matches(missing[0], [str(name) for name in frame.columns], n=1)
        hint = f" (found {near[0]!r})" if near else ""
        raise ReportError(
            f"the {table} table of a report lacks the column {missing[0]!r}{hint}; it needs {', '.join(COLUMNS[table])}"
        )

    # Convert every column to text or to finite floats
    columns: dict[str, pd.Series] = {}
    for name in COLUMNS[table]:
        if name in TEXT:
            columns[name] = _text(frame[name])
            continue
        try:
            columns[name] = _finite(pd.to_numeric(frame[name]))
        except (TypeError, ValueError) as error:
            raise ReportError(f"the column {name!r} of a report's {table} table must hold numbers") from error

    result = pd.DataFrame(columns).reset_index(drop=True)
    if "feature" in result:
        result["feature"] = _whole_numbers(result["feature"], table)
    return result


def require_rows(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Check a table like `check_table`, and that it has at least one row to draw.

    Raises:
        ReportError: when `check_table` raises it, or the table is empty.
    """
    checked_table = check_table(frame, table)
    if checked_table.empty:
        raise ReportError(f"the {table} table has no rows to draw")
    return checked_table


def require_columns(frame: pd.DataFrame, table: str, names: Sequence[str]) -> pd.DataFrame:
    """Return a copy of the columns `names` with their values unchanged.

    Raises:
        ReportError: when a column is missing.
    """
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise ReportError(f"the {table} table lacks the column {missing[0]!r}; it has {', '.join(map(str, frame))}")
    return frame[list(names)].copy()


def check_facts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of a table of facts about features: whole numbers in ``feature``, numbers or text elsewhere.

    Raises:
        ReportError: when there is no column ``feature``, or it repeats a feature or holds something else than whole
            numbers.

    Examples:
        >>> check_facts(pd.DataFrame({"feature": [3.0], "onset": ["step64"]}))["feature"].tolist()
        [3]
    """
    if "feature" not in frame.columns:
        raise ReportError(
            f"the facts table of a report lacks the column 'feature'; it has {', '.join(map(str, frame))}"
        )
    facts = frame.reset_index(drop=True).rename(columns=str)

    # Reject repeated features
    facts["feature"] = _whole_numbers(pd.to_numeric(facts["feature"], errors="coerce"), "facts")
    repeated = facts["feature"][facts["feature"].duplicated()]
    if len(repeated):
        raise ReportError(f"the facts table of a report has more than one row of feature {int(repeated.iloc[0])}")

    # Convert flags to words, numbers to finite floats, and everything else to text
    for name in facts.columns.drop("feature"):
        column = facts[name]
        if pd.api.types.is_bool_dtype(column):
            column = column.map({True: "yes", False: "no"})
        facts[name] = _finite(column) if pd.api.types.is_numeric_dtype(column) else _text(column)
    return facts


def _text(column: pd.Series) -> pd.Series:
    return column.map(lambda value: "" if pd.isna(value) else str(value)).astype(object)


def _finite(column: pd.Series) -> pd.Series:
    numbers = column.astype(float)
    return numbers.where(numbers.abs() != math.inf)


def _whole_numbers(column: pd.Series, table: str) -> pd.Series:
    if column.isna().any() or (column % 1 != 0).any():
        raise ReportError(f"the column 'feature' of a report's {table} table must hold whole numbers")
    return column.astype("int64")
