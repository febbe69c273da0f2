"""The axis of training tokens: logarithmic, with a place for the checkpoint that has seen none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt

NARROW = 290.0
"""Width in pixels of the narrowest plot: labels placed for it overlap on no wider one."""

_FORMAT = "replace(replace(format(datum.value, '.3~s'), 'G', 'B'), 'k', 'K')"


class TokenAxis:
    """A symmetric-log axis of training tokens: log-like, yet with a place for the checkpoint at 0."""

    def __init__(self, tokens: Sequence[float | int]) -> None:
        positive = [value for value in tokens if value > 0]
        self.constant = min(positive, default=1.0) / 2
        finite = [value for value in tokens if math.isfinite(value)]
        self.low, self.high = min(finite, default=0.0), max(positive, default=1.0)
        if self.low == self.high:
            self.low = 0.0

    def position(self, tokens: float | int) -> float:
        """Return where a token count lies, from 0 (left end) to 1 (right end)."""
        start, stop = math.log1p(self.low / self.constant), math.log1p(self.high / self.constant)
        return (math.log1p(tokens / self.constant) - start) / (stop - start)

    def ticks(self) -> list[float]:
        """Return round token counts, powers of ten first, as many as fit beside each other."""
        top = math.floor(math.log10(self.high)) + 1
        bottom = math.floor(math.log10(self.constant))
        wanted = [0.0, *(m * 10.0**power for m in (1, 2, 5) for power in range(bottom, top + 1))]
        kept: list[float] = []
        for value in wanted:
            inside = self.low <= value <= self.high
            apart = 36 / NARROW
            if inside and all(abs(self.position(value) - self.position(other)) >= apart for other in kept):
                kept.append(value)
        return sorted(kept)

    def encoding(self) -> alt.X:
        """Return the altair channel."""
        return alt.X(
            "tokens:Q",
            title="training tokens (log scale)",
            scale=alt.Scale(type="symlog", constant=self.constant, domain=[self.low, self.high], nice=False),
            axis=alt.Axis(values=self.ticks(), labelExpr=_FORMAT, labelOverlap=False),
        )
