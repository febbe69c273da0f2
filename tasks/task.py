"""A task: a named set of minimal pairs, and the step from sentences to token ids."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.answer_tokens import RULES
from tasks.errors import EmptyTaskError, NoSharedPromptError, TaskError, TokenizerError
from tasks.minimal_pair import MinimalPair
from tasks.quotas import Quotas, RemainingQuotas
from tasks.start_token import start_token
from tasks.tokenize import tokenize_pairs
from tasks.tokenized_task import TokenizedTask
from user_input.nearest import nearest


@dataclass(frozen=True, repr=False)
class Task:
    """A named set of minimal pairs in one language, before any tokenizer is chosen.

    Attributes:
        name: The name by which `tasks.load` finds it, e.g. ``"clams/en/simple_agrmt"``.
        language: ISO code of the language, ``"und"`` where the source does not say.
        source: Where the pairs come from: a file, a data set of the Hub, or the paper.
        pairs: The pairs, in the order of the source.
        skipped: Number of pairs that the reader left out, by reason.
        shared_prefix: Whether the two sentences of a pair are equal up to the answer. If not, the task has no prompts:
            it can be scored by whole sentences only, and `tokenize` rejects it.
        rule: The tokenization rule that the task is meant for; see `tokenize`.
        prepend: The start token that its prompts are meant to have; see `tokenize`.
        quotas: The largest number of pairs of each part; None uses all pairs.

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
        """Whether every pair has a patch prompt."""
        return bool(self.pairs) and all(pair.patch_right is not None for pair in self.pairs)

    def sample(self, limit: int | None, seed: int = 0) -> Task:
        """Draw at most `limit` pairs without replacement, and keep their order.

        Args:
            limit: The largest number of pairs; None keeps all of them.
            seed: Seed of the draw.

        Raises:
            TaskError: `limit` is below 1.
        """
        self._check_limit(limit)
        if limit is None or limit >= len(self.pairs):
            return self
        indices = sorted(random.Random(seed).sample(range(len(self.pairs)), limit))
        return replace(self, pairs=tuple(self.pairs[index] for index in indices))

    def tokenize(
        self,
        tokenizer: Any,
        *,
        rule: str | None = None,
        prepend: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        patch: bool = True,
    ) -> TokenizedTask:
        """Turn the pairs into prompt ids and answer tokens, and count the pairs for which that is not possible.

        Whole sentences are tokenized, with the tokenizer's own special tokens; the answers are the first tokens in
        which the two sentences differ (`tasks.answer_tokens`). For every kept pair, prompt and right answer begin the
        tokenization of the right sentence, and prompt and wrong answer that of the wrong sentence. A pair is left out,
        and counted, when

        - the two sentences are equal, or the tokenizer does not tell their answers apart, or they differ in whitespace;
        - one answer is a prefix of the other (``reference`` / ``reference`` + ``s``): the word that follows the
          shorter one would have to serve as its answer;
        - nothing comes before the answer;
        - an answer is the tokenizer's unknown token;
        - the patch prompt has another number of tokens, or its answers are not those of the clean prompt, swapped.

        Args:
            tokenizer: A fast tokenizer of transformers, since character offsets are needed.
            rule: ``"first-difference"``, or ``"ctt"``, which also leaves out pairs whose answers have different
                numbers of tokens or more than two, counted as the code of Crosscoding Through Time (arXiv 2509.05291)
                counts them for the data set at hand (`tasks.minimal_pair.CttCount`). None uses the rule of the task.
            prepend: ``"bos"``, ``"eos"`` or ``"bos-or-eos"`` (BOS, or EOS where the tokenizer has no BOS) begins every
                prompt with that token, once; then the first word of a sentence can be an answer. None uses the
                setting of the task, which by default leaves it to the tokenizer: many tokenizers put no token
                before a text, although the model saw one before every training text.
            limit: The largest number of kept pairs, in addition to the task's quotas: a random sample of the pairs
                that can be kept, in their order. Rejected pairs are counted only until the sample is complete.
            seed: Seed of the sample.
            patch: Whether the patch prompts are tokenized too. Without them no pair is left out because of its patch
                prompt, which only effects with the baseline ``patch`` need.

        Raises:
            NoSharedPromptError: The sentences of the task differ before the answer.
            TokenizerError: The tokenizer gives no offsets, or lacks the token to prepend.
            EmptyTaskError: No pair is left; the message gives the reasons.
            TaskError: An unknown rule or start token, or `limit` below 1.

        Examples:
            >>> tokenized = task.tokenize(tokenizer, rule="ctt", limit=300)  # doctest: +SKIP
            >>> tokenized.summary()  # doctest: +SKIP
            'kept 300 of 1,000; skipped: 41 one answer is a prefix of the other; ...'
            >>> tokenizer.decode(tokenized.prompts[0]), tokenizer.decode(tokenized.right[0])  # doctest: +SKIP
            ('The uncle', ' has')
        """
        # Check the options
        rule = self.rule if rule is None else rule
        if rule not in RULES:
            raise TaskError(f"unknown tokenization rule {rule!r}: {nearest(rule, RULES)}")
        self._check_limit(limit)
        if not self.shared_prefix:
            raise NoSharedPromptError(
                f"{self.name}: the two sentences of its pairs differ before the answer, so there is no prompt: "
                "score whole sentences instead, or choose a task with a shared prompt"
            )
        if not getattr(tokenizer, "is_fast", False):
            raise TokenizerError(
                f"{type(tokenizer).__name__} gives no character offsets: use a fast tokenizer of transformers"
            )
        prepend = self.prepend if prepend is None else prepend
        start = None if prepend is None else start_token(tokenizer, prepend)

        # Tokenize pairs, in random order where only some are kept
        order = list(range(len(self.pairs)))
        if self.quotas is not None:
            random.Random(self.quotas.seed).shuffle(order)
        if limit is not None:
            random.Random(seed).shuffle(order)
        tokens, rejected = tokenize_pairs(
            self.pairs,
            tokenizer,
            order,
            RemainingQuotas(self.quotas),
            rule=rule,
            start=start,
            patched=patch and self.has_patch,
            limit=limit,
        )

        # Count the pairs that were left out
        skipped = {**self.skipped}
        for reason, count in sorted(rejected.items()):
            skipped[reason] = skipped.get(reason, 0) + count
        if not tokens:
            reasons = "; ".join(f"{count:,} {reason}" for reason, count in skipped.items()) or "it had none"
            raise EmptyTaskError(f"{self.name}: no pair is left to work with ({reasons})")

        # Put the kept pairs back in their order
        indices = sorted(tokens)
        return TokenizedTask(
            name=self.name,
            prompts=tuple(tokens[index].prompt for index in indices),
            right=tuple(tokens[index].right for index in indices),
            wrong=tuple(tokens[index].wrong for index in indices),
            patch=tuple(tokens[index].patch for index in indices) if patch and self.has_patch else None,
            pairs=tuple(self.pairs[index] for index in indices),
            skipped=skipped,
        )

    def _check_limit(self, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise TaskError(f"{self.name}: limit must be at least 1 or None, not {limit}")
