"""A task in token ids, as models read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tasks.minimal_pair import MinimalPair


@dataclass(frozen=True, repr=False)
class TokenizedTask:
    """A task in token ids: for each pair one unpadded prompt and two answer tokens.

    ``prompts[i] + (right[i],)`` begins the tokenization of the whole right sentence i, and ``prompts[i] + (wrong[i],)``
    that of the wrong one. ``patch[i]`` has the same number of tokens as ``prompts[i]``; after it the two answers swap
    roles.

    Attributes:
        name: Name of the task.
        prompts: Token ids of the prompts, at least one token each.
        right: For each prompt, the answer token that makes the sentence acceptable.
        wrong: For each prompt, the answer token that makes it unacceptable.
        patch: Patch prompts, aligned with `prompts`; None if the task has none.
        pairs: The pairs that were kept, aligned with `prompts`.
        skipped: Number of pairs that were left out, by reason, including the reader's reasons.
    """

    name: str
    prompts: tuple[tuple[int, ...], ...]
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    patch: tuple[tuple[int, ...], ...] | None
    pairs: tuple[MinimalPair, ...]
    skipped: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Sequence[int]) -> TokenizedTask:
        """The task with the prompts of the given indices only, in this order."""
        return replace(
            self,
            prompts=tuple(self.prompts[row] for row in rows),
            right=tuple(self.right[row] for row in rows),
            wrong=tuple(self.wrong[row] for row in rows),
            pairs=tuple(self.pairs[row] for row in rows) if self.pairs else (),
            patch=None if self.patch is None else tuple(self.patch[row] for row in rows),
        )

    def __repr__(self) -> str:
        return f"TokenizedTask: {self.name}, {self.summary()}"

    def summary(self) -> str:
        """Say in one line how many pairs were kept, and how many were skipped for which reason.

        Examples:
            >>> tokenized.summary()  # doctest: +SKIP
            'kept 950 of 1,000; skipped: 50 one answer is a prefix of the other'
        """
        total = len(self) + sum(self.skipped.values())
        line = f"kept {len(self):,} of {total:,}"
        reasons = [f"{count:,} {reason}" for reason, count in self.skipped.items() if count]
        return line + (f"; skipped: {'; '.join(reasons)}" if reasons else "")
