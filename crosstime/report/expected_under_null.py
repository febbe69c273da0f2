"""How many features would have a class or a life cycle if none had it: the words beside a count, from null models."""

from __future__ import annotations

import math

import pandas as pd

from crosstime.report.numbers import number


def expected_under_null(nulls: pd.DataFrame, source: str, claim: str) -> tuple[float, float, float] | None:
    """The number of features with a claim that is expected where the claim is false, and its interval.

    Of several null models under which the claim is false by construction, the one with the largest number counts.

    Args:
        nulls: the table of null models, see `crosstime.report.columns`.
        source: what the claim is made of, such as ``RelDec`` or ``IE: TASK``.
        claim: a class, a life cycle, or "explained".

    Returns:
        The number and the bounds of its interval; None if there is no such null model.
    """
    rows = nulls[(nulls["source"] == source) & (nulls["claim"] == claim) & _is_false(nulls)]
    rows = rows[rows["expected"].notna()].sort_values("expected", kind="stable")
    if rows.empty:
        return None
    largest = rows.iloc[-1]
    return float(largest["expected"]), float(largest["low"]), float(largest["high"])


def expected_words(nulls: pd.DataFrame, source: str, claim: str) -> str:
    """The expected number in words, such as ``0.4 [0, 2] expected under the null``; empty without a null model.

    Examples:
        >>> claim = {"source": ["IE: mine"], "claim": "emerging", "false": "True"}
        >>> expected_words(pd.DataFrame(claim | {"expected": 0.41, "low": 0, "high": 2.2}), "IE: mine", "emerging")
        '0.4 [0, 2] expected under the null'
    """
    numbers = expected_under_null(nulls, source, claim)
    return "" if numbers is None else f"{expected_number(*numbers)} expected under the null"


def expected_number(value: float, low: float, high: float) -> str:
    """An expected number of features with its interval: a decimal below 10, and bounds as whole numbers from 2 on.

    Examples:
        >>> expected_number(0.41, 0.0, 2.2), expected_number(0.0, 0.0, 0.6), expected_number(120.4, 99.6, 140.2)
        ('0.4 [0, 2]', '0 [0, 0.6]', '120 [100, 140]')
    """
    return f"{_short(value, 10.0)} [{_short(low, 2.0)}, {_short(high, 2.0)}]"


def _short(value: float, whole_from: float) -> str:
    """A number with one decimal below a limit, and none from there on or where the decimal is zero."""
    text = number(value, 0 if math.isfinite(value) and abs(value) >= whole_from else 1)
    return text.removesuffix(".0")


def _is_false(nulls: pd.DataFrame) -> pd.Series:
    """Whether the claim of each row is false by construction under its null model."""
    return nulls["false"].astype(str).str.lower().isin(("true", "yes", "1"))
