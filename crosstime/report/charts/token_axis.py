"""The axis of training tokens: logarithmic, with a position for the checkpoint before the first training step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt

NARROW = 290.0
"""Width in pixels of the narrowest plot: labels that are placed for it do not overlap on a wider one."""

TICK_DISTANCE = 36.0
"""Least distance in pixels between two ticks."""

_FORMAT = "replace(replace(format(datum.value, '.3~s'), 'G', 'B'), 'k', 'K')"


class TokenAxis:
    """Symmetric-log axis of training tokens: nearly logarithmic, yet defined at zero tokens.

    Args:
        tokens: training tokens of the checkpoints to draw.
    """

    def __init__(self, tokens: Sequence[float | int]) -> None:
        positive = [value for value in tokens if value > 0]
        finite = [value for value in tokens if math.isfinite(value)]
        self.constant = min(positive, default=1.0) / 2
        self.low, self.high = min(finite, default=0.0), max(positive, default=1.0)
        if self.low == self.high:
            self.low = 0.0

    def position(self, tokens: float | int) -> float:
        """Return the position of a token count on the axis, from 0 (left end) to 1 (right end)."""
        start, stop = math.log1p(self.low / self.constant), math.log1p(self.high / self.constant)
        return (math.log1p(tokens / self.constant) - start) / (stop - start)

    def ticks(self) -> list[float]:
        """Return round token counts whose labels do not overlap; powers of ten take precedence."""
        top = math.floor(math.log10(self.high)) + 1
        bottom = math.floor(math.log10(self.constant))
        candidates = [0.0, *(m * 10.0**power for m in (1, 2, 5) for power in range(bottom, top + 1))]

        ticks: list[float] = []
        for value in candidates:
            inside = self.low <= value <= self.high
            if inside and all(abs(self.position(value) - self.position(t)) >= TICK_DISTANCE / NARROW for t in ticks):
                ticks.append(value)
        return sorted(ticks)

    def encoding(self) -> alt.X:
        """Return the horizontal channel of an altair chart whose column ``tokens`` holds the token counts."""
        return alt.X(
            "tokens:Q",
            title="training tokens (log scale)",
            scale=alt.Scale(type="symlog", constant=self.constant, domain=[self.low, self.high], nice=False),
            axis=alt.Axis(values=self.ticks(), labelExpr=_FORMAT, labelOverlap=False),
        )
