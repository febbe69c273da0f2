"""Where a minimal pair becomes tokens: the answer is the first token in which two whole sentences differ.

Tokenizing a prompt and an answer apart and joining them gives tokens that the model never sees
(``" reference" + "s"`` for ``" references"``). So the whole sentences are tokenized, and the prompt is
everything before the first token that differs.
"""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tasks.errors import EmptyTaskError, NoSharedPromptError, TaskError, TokenizerError
from tasks.pairs import MinimalPair, Task, TokenizedTask
from tasks.start_token import start_token
from user_input.nearest import nearest

RULES = ("first-difference", "ctt")

SAME = "the two sentences are the same"
SAME_TOKENS = "the tokenizer does not tell the answers apart"
BLANK = "the two sentences part at a blank"
PREFIX = "one answer is a prefix of the other"
NO_PROMPT = "no shared prompt"
UNKNOWN = "an answer is unknown to the tokenizer"
LENGTHS = "answers differ in length"
TOO_LONG = "answer longer than two tokens"
PATCH_LENGTH = "patch prompt has another number of tokens"
PATCH_ANSWERS = "patch prompt has other answers"

CHUNK = 256


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A tokenized sentence: ids, the characters each token stands for, and which tokens are markers."""

    text: str
    ids: Sequence[int]
    offsets: Sequence[tuple[int, int]]
    special: Sequence[int]


def tokenize(
    task: Task,
    tokenizer: Any,
    *,
    rule: str | None = None,
    prepend: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> TokenizedTask:
    """Turn a task's pairs into prompt ids and answer tokens, and count what cannot be turned.

    Whole sentences are tokenized, with the tokenizer's own special tokens. For every kept pair, prompt
    and right answer begin the tokenization of the right sentence, and prompt and wrong answer that of
    the wrong one. A pair is left out, and counted, when

    - the two sentences are the same, or their answers are to the tokenizer, or they part at a blank;
    - one answer is a prefix of the other (``reference`` / ``reference`` + ``s``): what follows the
      shorter word would have to serve as its answer;
    - nothing comes before the answer;
    - an answer is the tokenizer's unknown token;
    - the patch prompt has another number of tokens, or other answers than the clean one swapped.

    Args:
        task: What to tokenize.
        tokenizer: A fast tokenizer of transformers: offsets are needed.
        rule: ``"first-difference"``, or ``"ctt"`` to leave out also pairs whose answer words take a
            different number of tokens or more than two (Crosscoding Through Time, arXiv 2509.05291). None
            takes the task's own.
        prepend: ``"bos"``, ``"eos"`` or ``"bos-or-eos"`` (BOS, and EOS where the tokenizer has none) begins every
            prompt with that token, once; then a first word can be an answer. None takes the task's own, which is
            mostly what the tokenizer does by itself: many put no token before a text, though
            the model saw one before every training text.
        limit: Keep at most so many pairs, beside the task's own quotas: a random sample of those that can be
            kept, in their order. Of the others only those are counted that were looked at before the sample
            was complete.
        seed: Decides the sample.

    Raises:
        NoSharedPromptError: The task's sentences differ before the answer.
        TokenizerError: The tokenizer gives no offsets, or lacks the token to prepend.
        EmptyTaskError: No pair is left; names the reasons.
        TaskError: Unknown rule or start token, or `limit` below 1.

    Examples:
        >>> tokenized = tokenize(task, tokenizer, rule="ctt")  # doctest: +SKIP
        >>> tokenizer.decode(tokenized.prompts[0]), tokenizer.decode(tokenized.right[0])  # doctest: +SKIP
        ('The uncle', ' has')
    """
    rule = task.rule if rule is None else rule
    if rule not in RULES:
        raise TaskError(f"unknown tokenization rule {rule!r}: {nearest(rule, RULES)}")
    if limit is not None and limit < 1:
        raise TaskError(f"{task.name}: limit must be at least 1 or None, not {limit}")
    if not task.shared_prefix:
        raise NoSharedPromptError(
            f"{task.name}: the two sentences of its pairs differ before the answer, so there is no prompt: "
            "score whole sentences instead, or choose a task with a shared prompt"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise TokenizerError(
            f"{type(tokenizer).__name__} gives no character offsets: use a fast tokenizer of transformers"
        )
    prepend = task.prepend if prepend is None else prepend
    start = None if prepend is None else start_token(tokenizer, prepend)
    order = list(range(len(task.pairs)))
    if task.quotas is not None:
        random.Random(task.quotas.seed).shuffle(order)
    if limit is not None:
        random.Random(seed).shuffle(order)

    kept: dict[int, _Tokens] = {}
    reasons: Counter[str] = Counter()
    wanted = _Wanted(task)
    for index, result in _results(task, tokenizer, rule, start, order, wanted):
        if not wanted(index):
            continue
        if isinstance(result, str):
            reasons[result] += 1
        else:
            kept[index] = result
            wanted.count(index)
            if len(kept) == limit:
                break
    skipped = {**task.skipped}
    for reason, number in sorted(reasons.items()):
        skipped[reason] = skipped.get(reason, 0) + number
    if not kept:
        why = "; ".join(f"{number:,} {reason}" for reason, number in skipped.items()) or "it had none"
        raise EmptyTaskError(f"{task.name}: no pair is left to work with ({why})")
    tokens = [kept[index] for index in sorted(kept)]
    return TokenizedTask(
        name=task.name,
        prompts=tuple(item.prompt for item in tokens),
        right=tuple(item.right for item in tokens),
        wrong=tuple(item.wrong for item in tokens),
        patch=tuple(item.patch for item in tokens) if task.has_patch else None,
        pairs=tuple(task.pairs[index] for index in sorted(kept)),
        skipped=skipped,
    )


@dataclass(frozen=True, slots=True)
class _Tokens:
    """What is kept of a pair; `patch` is empty where the task has no patch prompts."""

    prompt: tuple[int, ...]
    right: int
    wrong: int
    patch: tuple[int, ...] = ()


class _Wanted:
    """Whether a task's quotas have room for a pair."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.room = dict(task.quotas.most) if task.quotas else {}

    def _part(self, index: int) -> str | None:
        return self.task.pairs[index].labels.get(self.task.quotas.label) if self.task.quotas else None

    def __call__(self, index: int) -> bool:
        return self.room.get(self._part(index), 1) > 0

    def count(self, index: int) -> None:
        part = self._part(index)
        if part in self.room:
            self.room[part] -= 1


def _results(
    task: Task, tokenizer: Any, rule: str, start: int | None, order: Sequence[int], wanted: _Wanted
) -> Iterator[tuple[int, _Tokens | str]]:
    """The tokens of each pair, or the reason why there are none; in `order`, tokenized in chunks."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    has_patch = task.has_patch
    for chunk in range(0, len(order), CHUNK):
        indices = [index for index in order[chunk : chunk + CHUNK] if wanted(index)]
        texts = [text for index in indices for text in _texts(task.pairs[index], has_patch)]
        if not texts:
            continue
        encoded = _encode(tokenizer, texts, start)
        for index in indices:
            sentences = tuple(islice(encoded, 4 if has_patch else 2))
            result = _clean(sentences[0], sentences[1], rule, unknown)
            if has_patch and isinstance(result, _Tokens):
                result = _with_patch(result, _clean(sentences[2], sentences[3], "first-difference", unknown))
            yield index, result


def _texts(pair: MinimalPair, has_patch: bool) -> tuple[str, ...]:
    if has_patch and pair.patch_right is not None and pair.patch_wrong is not None:
        return (pair.right, pair.wrong, pair.patch_right, pair.patch_wrong)
    return (pair.right, pair.wrong)


def _encode(tokenizer: Any, texts: list[str], start: int | None) -> Iterator[_Sentence]:
    encoding: Mapping[str, Any] = tokenizer(
        texts,
        add_special_tokens=True,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    columns = (encoding["input_ids"], encoding["offset_mapping"], encoding["special_tokens_mask"])
    for text, ids, offsets, special in zip(texts, *columns, strict=True):
        if start is not None and (not ids or ids[0] != start):
            ids, offsets, special = [start, *ids], [(0, 0), *offsets], [1, *special]
        yield _Sentence(text, ids, offsets, special)


def _clean(right: _Sentence, wrong: _Sentence, rule: str, unknown: int | None) -> _Tokens | str:
    """Prompt and answers of one pair of sentences, or the reason why there are none."""
    if right.text == wrong.text:
        return SAME
    if list(right.ids) == list(wrong.ids):
        return SAME_TOKENS
    first = _first_difference(right.ids, wrong.ids)
    start, ends = _first_differing_words(right.text, wrong.text)
    words = right.text[start : ends[0]], wrong.text[start : ends[1]]
    if words[0] == words[1] or "" in words:
        begins = right.text.startswith(wrong.text) or wrong.text.startswith(right.text)
        return PREFIX if begins else BLANK
    past = _is_past(right, first, ends[0]), _is_past(wrong, first, ends[1])
    if all(past):
        return SAME_TOKENS
    if any(past):
        return PREFIX
    if first == 0:
        return NO_PROMPT
    if unknown is not None and unknown in (right.ids[first], wrong.ids[first]):
        return UNKNOWN
    if rule == "ctt":
        lengths = _word_length(right, start, ends[0]), _word_length(wrong, start, ends[1])
        if lengths[0] != lengths[1]:
            return LENGTHS
        if lengths[0] > 2:
            return TOO_LONG
    return _Tokens(tuple(right.ids[:first]), right.ids[first], wrong.ids[first])


def _with_patch(clean: _Tokens, patch: _Tokens | str) -> _Tokens | str:
    if isinstance(patch, str):
        return PATCH_ANSWERS
    if len(patch.prompt) != len(clean.prompt):
        return PATCH_LENGTH
    if (patch.right, patch.wrong) != (clean.wrong, clean.right):
        return PATCH_ANSWERS
    return _Tokens(clean.prompt, clean.right, clean.wrong, patch.prompt)


def _first_difference(first: Sequence[Any], second: Sequence[Any]) -> int:
    """The first index at which two sequences differ; the shorter one's length if it begins the other."""
    shorter = min(len(first), len(second))
    return next((i for i in range(shorter) if first[i] != second[i]), shorter)


def _first_differing_words(right: str, wrong: str) -> tuple[int, tuple[int, int]]:
    """Where the first words begin in which two texts differ, and where each of them ends.

    Words are split by blanks, and punctuation at their end is left off unless it is all that differs:
    in ``reference.`` against ``references.`` the full stop must not pass for an answer.
    """
    start = _first_difference(right, wrong)
    while start > 0 and not right[start - 1].isspace():
        start -= 1
    whole = _blank(right, start), _blank(wrong, start)
    bare = _bare_end(right, start, whole[0]), _bare_end(wrong, start, whole[1])
    return start, whole if right[start : bare[0]] == wrong[start : bare[1]] else bare


def _blank(text: str, start: int) -> int:
    """The first blank from `start` on, or the end of the text."""
    return next((i for i in range(start, len(text)) if text[i].isspace()), len(text))


def _bare_end(text: str, start: int, end: int) -> int:
    """The end of a word without its trailing punctuation; a word of punctuation only stays whole."""
    bare = end
    while bare > start and unicodedata.category(text[bare - 1])[0] in "PS":
        bare -= 1
    return bare if bare > start else end


def _is_past(sentence: _Sentence, index: int, end: int) -> bool:
    """Whether a token lies after the word that ends at `end`, or there is no such token.

    Only starts are compared: pieces of bytes may share a character, and then share its start.
    """
    return index >= len(sentence.ids) or bool(sentence.special[index]) or sentence.offsets[index][0] >= end


def _word_length(sentence: _Sentence, start: int, end: int) -> int:
    """How many tokens have a part in the word between `start` and `end`."""
    return sum(
        first < end and last > start
        for (first, last), special in zip(sentence.offsets, sentence.special, strict=True)
        if not special
    )
