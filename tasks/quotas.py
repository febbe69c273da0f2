"""Quotas: how many pairs of each part of a task are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.minimal_pair import MinimalPair


@dataclass(frozen=True)
class Quotas:
    """The largest number of pairs of each part of a task, counted after tokenization.

    Attributes:
        label: The label that names the part to which a pair belongs.
        most: The largest number of kept pairs, by part; a part that is not listed is not limited.
        seed: Seed of the random choice of pairs.

    Examples:
        >>> Quotas("part", {"clams/en/simple_agrmt": 80}, seed=42).most
        {'clams/en/simple_agrmt': 80}
    """

    label: str
    most: Mapping[str, int] = field(hash=False)
    seed: int = 0


class RemainingQuotas:
    """What is left of a task's quotas while its pairs are tokenized.

    Args:
        quotas: The quotas of the task; None allows every pair.

    Examples:
        >>> remaining = RemainingQuotas(Quotas("number", {"plural": 1}))
        >>> pair = MinimalPair("the cats sleep", "the cats sleeps", labels={"number": "plural"})
        >>> remaining.use(pair)
        >>> remaining.allow(pair)
        False
    """

    def __init__(self, quotas: Quotas | None) -> None:
        self._label = None if quotas is None else quotas.label
        self._remaining = {} if quotas is None else dict(quotas.most)

    def allow(self, pair: MinimalPair) -> bool:
        """Whether another pair of this pair's part may be kept."""
        part = self._part(pair)
        return part is None or self._remaining.get(part, 1) > 0

    def use(self, pair: MinimalPair) -> None:
        """Count a pair that is kept."""
        part = self._part(pair)
        if part in self._remaining:
            self._remaining[part] -= 1

    def _part(self, pair: MinimalPair) -> str | None:
        return None if self._label is None else pair.labels.get(self._label)
