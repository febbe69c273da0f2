"""The tables a report is made of, and a clear sentence for one that lacks a column."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

import pandas as pd

from crosstime.errors import ReportError

COLUMNS: dict[str, tuple[str, ...]] = {
    "accuracy": (
        "revision",
        "step",
        "tokens",
        "task",
        "n",
        "accuracy",
        "low",
        "high",
        "logit_difference",
    ),
    "effects": ("task", "feature", "revision", "ie", "low", "high"),
    "temporal": (
        "task",
        "feature",
        "revision",
        "relie",
        "relie_low",
        "relie_high",
        "reldec",
        "decoder_norm",
    ),
    "classes": ("task", "feature", "class_ie", "class_dec"),
    "ablation": (
        "task",
        "features",
        "kind",
        "revision",
        "accuracy",
        "accuracy_change",
        "logit_difference",
        "logit_difference_change",
        "low",
        "high",
        "accuracy_change_low",
        "accuracy_change_high",
    ),
    "training": ("step", "loss", "l2", "sparsity", "l0", "dead"),
    "evaluation": ("revision", "fve", "ce_clean", "ce_spliced", "ce_recovered", "l0"),
    "faithfulness": (
        "task",
        "revision",
        "features",
        "n",
        "faithfulness",
        "faithfulness_low",
        "faithfulness_high",
        "completeness",
        "completeness_low",
        "completeness_high",
    ),
    "life_cycles": ("source", "life_cycle", "count", "share", "low", "high"),
    "rotation": ("revision", "other", "cosine"),
    "rotation_steps": ("revision", "previous", "degrees", "share", "turning"),
    "dimensionality": ("revision", "total", "alive"),
    "similarity": ("revision", "other", "cosine", "pearson", "cka"),
    "lives": ("task", "feature", "life_cycle", "label", "support"),
    "dips": (
        "dip",
        "at",
        "other",
        "task",
        "group",
        "n",
        "revision",
        "prompts",
        "accuracy",
        "accuracy_change",
        "logit_difference_change",
        "low",
        "high",
        "p",
    ),
    "logit_effects": ("feature", "revision", "side", "rank", "token", "effect"),
}
"""Table -> its columns, in the order in which they are shown."""

TEXT = frozenset(
    {
        "revision", "other", "previous", "task", "features", "kind", "class_ie", "class_dec", "side", "token", "source",
        "life_cycle", "label", "dip", "at", "group",
    }
)  # fmt: skip
"""Columns of names; a revision called 143000 or a feature set called 7 is still a name."""

TOP = "top"
"""What `features` of the faithfulness table says of the most important ones, as against a control."""

WHERE_MISSING: dict[str, dict[str, str | float]] = {
    "faithfulness": {"features": TOP},
    "ablation": dict.fromkeys(("low", "high", "accuracy_change_low", "accuracy_change_high"), math.nan),
}
"""Table -> columns that it may lack, and what then stands in them."""

FACTS = {
    "rotation": "rotation (degrees)",
    "life_cycle_dec": "life cycle by decoder norm",
    "spurious": "there by latent scaling at",
    "corpus_density": "share of corpus tokens",
}
"""Columns of facts whose names would not tell a reader what they are."""

ERROR_TERM = -1
"""The `feature` of the crosscoder's error term."""


def checked(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return a copy of `frame` with exactly the columns of `table`: names as text, the rest as numbers.

    Infinities become NaN, since neither a chart nor a table can place them.

    Raises:
        ReportError: when a column is missing or a column of numbers holds something else.

    Examples:
        >>> checked(effects, "effects")["feature"].dtype
        dtype('int64')
    """
    for name, value in WHERE_MISSING.get(table, {}).items():
        if name not in frame.columns:
            frame = frame.assign(**{name: value})
    missing = [name for name in COLUMNS[table] if name not in frame.columns]
    if missing:
        near = difflib.get_close_matches(missing[0], [str(name) for name in frame.columns], n=1)
        hint = f" (found {near[0]!r})" if near else ""
        raise ReportError(
            f"the {table} table of a report lacks the column {missing[0]!r}{hint}; it needs {', '.join(COLUMNS[table])}"
        )
    out: dict[str, pd.Series] = {}
    for name in COLUMNS[table]:
        column = frame[name]
        if name in TEXT:
            out[name] = column.map(lambda value: "" if pd.isna(value) else str(value)).astype(object)
            continue
        try:
            numbers = pd.to_numeric(column).astype(float)
        except (TypeError, ValueError) as error:
            raise ReportError(f"the column {name!r} of a report's {table} table must hold numbers") from error
        out[name] = numbers.where(numbers.abs() != float("inf"))
    result = pd.DataFrame(out).reset_index(drop=True)
    if "feature" in result:
        result["feature"] = _whole(result["feature"], table)
    return result


def filled(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return what `checked` does, of a table that has rows to draw.

    Raises:
        ReportError: see `checked`; or there is no row.
    """
    rows = checked(frame, table)
    if rows.empty:
        raise ReportError(f"the {table} table has no rows to draw")
    return rows


def needed(frame: pd.DataFrame, table: str, names: Sequence[str]) -> pd.DataFrame:
    """Return a copy of some columns of a table, as they are.

    Raises:
        ReportError: when one is missing.
    """
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise ReportError(f"the {table} table lacks the column {missing[0]!r}; it has {', '.join(map(str, frame))}")
    return frame[list(names)].copy()


def checked_facts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of a table of facts about features: whole numbers in ``feature``, the rest numbers or text.

    Raises:
        ReportError: there is no column ``feature``, or it names a feature twice or by something else than a number.

    Examples:
        >>> checked_facts(pd.DataFrame({"feature": [3.0], "onset": ["step64"]}))["feature"].tolist()
        [3]
    """
    if "feature" not in frame.columns:
        raise ReportError(
            f"the facts table of a report lacks the column 'feature'; it has {', '.join(map(str, frame))}"
        )
    result = frame.reset_index(drop=True).rename(columns=str)
    result["feature"] = _whole(pd.to_numeric(result["feature"], errors="coerce"), "facts")
    twice = result["feature"][result["feature"].duplicated()]
    if len(twice):
        raise ReportError(f"the facts table of a report has more than one row of feature {int(twice.iloc[0])}")
    for name in result.columns.drop("feature"):
        column = result[name]
        if pd.api.types.is_bool_dtype(column):
            column = column.map({True: "yes", False: "no"})
        if pd.api.types.is_numeric_dtype(column):
            column = column.astype(float)
            result[name] = column.where(column.abs() != float("inf"))
        else:
            result[name] = column.map(lambda value: "" if pd.isna(value) else str(value)).astype(object)
    return result


def fact_title(name: str) -> str:
    """Write the name of a column of facts for readers.

    Examples:
        >>> fact_title("turning_point"), fact_title("life_cycle[agreement/simple]"), fact_title("rotation")
        ('turning point', 'life cycle on agreement/simple', 'rotation (degrees)')
    """
    head, _, task = name.partition("[")
    return FACTS.get(head, head.replace("_", " ")) + (f" on {task.removesuffix(']')}" if task else "")


def _whole(column: pd.Series, table: str) -> pd.Series:
    if column.isna().any() or (column % 1 != 0).any():
        raise ReportError(f"the column 'feature' of a report's {table} table must hold whole numbers")
    return column.astype("int64")


def in_order(values: pd.Series) -> list[str]:
    """Return the distinct names of a column in order of appearance, which is the order they are shown in."""
    return list(dict.fromkeys(values.tolist()))


def feature_name(feature: int) -> str:
    """Name a feature as charts and tables do.

    Examples:
        >>> feature_name(123), feature_name(-1)
        ('f123', 'error term')
    """
    return "error term" if feature == ERROR_TERM else f"f{feature}"
