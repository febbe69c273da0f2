"""Both sentences of every pair as token ids, for scoring a pair by the likelihoods of its sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.errors import EmptyTaskError
from tasks.minimal_pair import MinimalPair
from tasks.start_token import start_token
from tasks.task import Task


@dataclass(frozen=True)
class SentencePairs:
    """Whole sentences in token ids, each of which begins with the start token.

    Attributes:
        name: Name of the task.
        right: The acceptable sentences.
        wrong: The unacceptable sentences, aligned with `right`.
        pairs: The pairs, aligned with `right`.
    """

    name: str
    right: tuple[tuple[int, ...], ...]
    wrong: tuple[tuple[int, ...], ...]
    pairs: tuple[MinimalPair, ...]

    def __len__(self) -> int:
        return len(self.pairs)


def whole_sentences(task: Task, tokenizer: Any) -> SentencePairs:
    """Tokenize both sentences of every pair, and put BOS before them, or EOS if the tokenizer has no BOS.

    Every pair is kept, even if it has no prompt: this is how lm-evaluation-harness scores BLiMP. The tokenizer's own
    special tokens are left out; a sentence that already begins with the start token keeps it once.

    Args:
        task: The pairs.
        tokenizer: A tokenizer of transformers.

    Raises:
        TokenizerError: The tokenizer has neither token.
        EmptyTaskError: The task has no pair.

    Examples:
        >>> sentences = whole_sentences(task, tokenizer)  # doctest: +SKIP
        >>> sentences.right[0][0] == tokenizer.eos_token_id  # doctest: +SKIP
        True
    """
    start = start_token(tokenizer)
    if not task.pairs:
        raise EmptyTaskError(f"{task.name}: no pair is left to work with (it had none)")

    def encode(texts: list[str]) -> tuple[tuple[int, ...], ...]:
        batch = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return tuple(tuple(ids) if ids and ids[0] == start else (start, *ids) for ids in batch)

    right, wrong = encode([pair.right for pair in task.pairs]), encode([pair.wrong for pair in task.pairs])
    return SentencePairs(task.name, right, wrong, task.pairs)
