"""Minimal pairs, the task that holds them, and the task in token ids: plain values, nothing hidden."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.errors import TaskError


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """Two whole sentences that differ in whether they are acceptable, and perhaps their patched twins.

    The patch prompt is the clean prompt with the deciding word changed, so that the answers swap:
    its right answer is the clean wrong one. Patch sentences come both or not at all.

    Attributes:
        right: The acceptable sentence.
        wrong: The unacceptable sentence.
        patch_right: The patch prompt continued by its own right answer.
        patch_wrong: The patch prompt continued by its own wrong answer.
        labels: What the source says about the pair, e.g. ``{"case": "plural_singular"}``.
        where: The pair's origin for messages, e.g. ``"simple_test.json:17"``.

    Raises:
        TaskError: Only one of the two patch sentences is given.

    Examples:
        >>> pair = MinimalPair("the cats sleep .", "the cats sleeps .", labels={"number": "plural"})
        >>> pair.patch_right is None
        True
    """

    right: str
    wrong: str
    patch_right: str | None = None
    patch_wrong: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    where: str = ""

    def __post_init__(self) -> None:
        if (self.patch_right is None) != (self.patch_wrong is None):
            raise TaskError(f"{self.where or 'a pair'}: patch_right and patch_wrong come both or not at all")


@dataclass(frozen=True)
class Quotas:
    """How many pairs of each part of a task are wanted, counted after tokenization.

    Attributes:
        label: The label that names a pair's part.
        most: At most so many kept pairs, by part; a part that is not listed is not limited.
        seed: Decides which.

    Examples:
        >>> Quotas("part", {"clams/en/simple_agrmt": 80}, seed=42).most
        {'clams/en/simple_agrmt': 80}
    """

    label: str
    most: Mapping[str, int] = field(hash=False)
    seed: int = 0


@dataclass(frozen=True, repr=False)
class Task:
    """A named set of minimal pairs in one language, before any tokenizer is chosen.

    Attributes:
        name: As given to `tasks.load`, e.g. ``"clams/en/simple_agrmt"``.
        language: ISO code of the language, ``"und"`` where the source does not say.
        source: Where the pairs come from: a file, a data set of the Hub, or the paper.
        pairs: The pairs, in the order of the source.
        skipped: How many pairs the reader left out, by reason.
        shared_prefix: Whether the two sentences of a pair are alike up to the answer. If not, the
            task has no prompt: it can be scored by whole sentences only and `tokenize` refuses.
        rule: The tokenization rule that the task is meant for, see `tasks.tokenization.tokenize`.
        prepend: The start token that its prompts are meant to have, see there; None for what the tokenizer does.
        quotas: How many pairs of its parts are wanted; None for all.

    Examples:
        >>> task = Task("mine", "en", "by hand", (MinimalPair("she runs .", "she run ."),))
        >>> len(task), task.has_patch
        (1, False)
    """

    name: str
    language: str
    source: str
    pairs: tuple[MinimalPair, ...]
    skipped: Mapping[str, int] = field(default_factory=dict, hash=False)
    shared_prefix: bool = True
    rule: str = "first-difference"
    prepend: str | None = None
    quotas: Quotas | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        example = f", such as {self.pairs[0].right!r} and {self.pairs[0].wrong!r}" if self.pairs else ""
        return f"Task: {self.name} ({self.language}), {len(self):,} pairs{example}"

    @property
    def has_patch(self) -> bool:
        """Whether every pair comes with a patch prompt."""
        return bool(self.pairs) and all(pair.patch_right is not None for pair in self.pairs)

    def sample(self, limit: int | None, seed: int = 0) -> Task:
        """Draw at most `limit` pairs without replacement, in their old order.

        The same seed gives the same pairs; ``limit=None`` keeps all of them.

        Raises:
            TaskError: `limit` is below 1.
        """
        if limit is not None and limit < 1:
            raise TaskError(f"{self.name}: limit must be at least 1 or None, not {limit}")
        if limit is None or limit >= len(self.pairs):
            return self
        kept = sorted(random.Random(seed).sample(range(len(self.pairs)), limit))
        return replace(self, pairs=tuple(self.pairs[i] for i in kept))

    def tokenize(
        self,
        tokenizer: Any,
        *,
        rule: str | None = None,
        prepend: str | None = None,
        limit: int | None = None,
        seed: int = 0,
    ) -> TokenizedTask:
        """Turn the pairs into prompt ids and answer tokens; see `tasks.tokenization.tokenize`.

        Examples:
            >>> task.tokenize(tokenizer, rule="ctt", limit=300).summary()  # doctest: +SKIP
            'kept 300 of 1,000; skipped: 41 one answer is a prefix of the other; ...'
        """
        from tasks.tokenization import tokenize

        return tokenize(self, tokenizer, rule=rule, prepend=prepend, limit=limit, seed=seed)


@dataclass(frozen=True, repr=False)
class TokenizedTask:
    """A task in token ids: ragged, unpadded, one prompt and two answer tokens a pair.

    ``prompts[i] + (right[i],)`` begins the tokenization of the whole right sentence i, and the same
    with `wrong`. `patch[i]` has as many tokens as `prompts[i]`; there the two answers swap roles.

    Attributes:
        name: The task's name.
        prompts: Prompt token ids, at least one token each.
        right: The answer token that makes the sentence acceptable, one a prompt.
        wrong: The answer token that makes it unacceptable, one a prompt.
        patch: Patch prompts, aligned with `prompts`; None if the task has none.
        pairs: The pairs that were kept, aligned with `prompts`.
        skipped: How many pairs were left out, by reason, the reader's reasons included.
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

    def __repr__(self) -> str:
        return f"TokenizedTask: {self.name}, {self.summary()}"

    def summary(self) -> str:
        """One line: how many pairs were kept, how many were skipped and why.

        Examples:
            >>> tokenized.summary()  # doctest: +SKIP
            'kept 950 of 1,000; skipped: 50 one answer is a prefix of the other'
        """
        total = len(self) + sum(self.skipped.values())
        line = f"kept {len(self):,} of {total:,}"
        reasons = [f"{count:,} {reason}" for reason, count in self.skipped.items() if count]
        return line + (f"; skipped: {'; '.join(reasons)}" if reasons else "")
