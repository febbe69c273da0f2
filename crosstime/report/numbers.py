"""Format numbers for readers: few digits, the same number of decimals throughout a column, and never `nan`."""

from __future__ import annotations

import math
from collections.abc import Iterable

MISSING = "–"
"""Shown in place of a missing number."""

UNDEFINED = "undefined"
"""Shown in place of a ratio that is not defined: 0/0 in RelIE or RelDec."""

_MINUS = "\u2212"


def decimals_for(values: Iterable[float | int], digits: int = 3, maximum: int = 6) -> int:
    """Return the number of decimals that shows the largest of `values` with `digits` digits, so that a column lines up.

    Examples:
        >>> decimals_for([0.01234, 0.3]), decimals_for([1234.5]), decimals_for([0.00123])
        (3, 0, 5)
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0.0:
        return digits
    return min(maximum, max(0, digits - 1 - math.floor(math.log10(largest))))


def number(value: float | int, decimals: int = 3, *, missing: str = MISSING, sign: bool = False) -> str:
    """Format `value` with a true minus sign; NaN and infinities become `missing`.

    Examples:
        >>> number(-0.5), number(float("nan")), number(0.25, 2, sign=True)
        ('−0.500', '–', '+0.25')
    """
    if not math.isfinite(value):
        return missing
    text = f"{abs(value):,.{decimals}f}"
    if float(text.replace(",", "")) == 0.0:
        return text
    if value < 0:
        return _MINUS + text
    return f"+{text}" if sign else text


def interval(low: float | int, high: float | int, decimals: int = 3) -> str:
    """Format a confidence interval; a missing bound gives `–`.

    Examples:
        >>> interval(-0.1, 0.2, 1)
        '[−0.1, 0.2]'
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def with_interval(
    value: float | int, low: float | int, high: float | int, decimals: int = 3, *, missing: str = MISSING
) -> str:
    """Format a number, followed by its interval if both bounds are known.

    Examples:
        >>> with_interval(0.1, 0.0, 0.2, 1)
        '0.1 [0.0, 0.2]'
    """
    text = number(value, decimals, missing=missing)
    bounds = interval(low, high, decimals)
    return text if bounds == MISSING or text == missing else f"{text} {bounds}"


def count(value: float | int) -> str:
    """Format a large count with three digits and K, M, B or T, the units in which training tokens are given.

    Examples:
        >>> count(131_072), count(6_144_000), count(0)
        ('131K', '6.14M', '0')
    """
    if not math.isfinite(value):
        return MISSING
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        # 999,500 rounds to 1000K, which is better written 1M.
        if abs(value) >= scale * 0.9995:
            return f"{value / scale:.3g}{unit}"
    return f"{value:.3g}"
