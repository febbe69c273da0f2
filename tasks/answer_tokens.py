"""Where a minimal pair becomes tokens: the answer is the first token in which two whole sentences differ.

Tokenizing a prompt and an answer separately and joining them gives tokens that the model never sees
(``" reference" + "s"`` for ``" references"``). Therefore

1. both whole sentences are tokenized;
2. the first tokens that differ are the two answers, and everything before them is the prompt;
3. the first *words* that differ are found in the text, and the pair is rejected where an answer token begins after
   the end of its word: then one word is a prefix of the other, and the next word would have to serve as the answer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.minimal_pair import FIRST_WORD, CttCount

RULES = ("first-difference", "ctt")
"""Names of the tokenization rules; ``ctt`` also rejects answers of unequal length, or of more than two tokens."""

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


@dataclass(frozen=True, slots=True)
class Sentence:
    """A tokenized sentence.

    Attributes:
        text: The sentence.
        ids: Its token ids.
        offsets: Start and end of each token in the text, in characters.
        special: 1 for each token that is a marker of the tokenizer and stands for no text, else 0.
    """

    text: str
    ids: Sequence[int]
    offsets: Sequence[tuple[int, int]]
    special: Sequence[int]

    def is_past(self, index: int, end: int) -> bool:
        """Whether a token begins after the word that ends at character `end`, or does not exist.

        Only the starts of tokens are compared: byte tokens of one character share its start.
        """
        return index >= len(self.ids) or bool(self.special[index]) or self.offsets[index][0] >= end

    def tokens_in(self, start: int, end: int) -> int:
        """The number of tokens that overlap with the characters between `start` and `end`."""
        return sum(
            first < end and last > start
            for (first, last), special in zip(self.offsets, self.special, strict=True)
            if not special
        )

    def tokens_from(self, index: int, end: int) -> int:
        """The number of tokens from `index` on that begin before character `end`."""
        rest = zip(self.offsets[index:], self.special[index:], strict=True)
        return sum(first < end for (first, _), special in rest if not special)


@dataclass(frozen=True, slots=True)
class PairTokens:
    """Prompt and answer tokens of a pair; `patch` is empty where the task has no patch prompts."""

    prompt: tuple[int, ...]
    right: int
    wrong: int
    patch: tuple[int, ...] = ()


def answer_tokens(
    right: Sentence, wrong: Sentence, rule: str, unknown: int | None, ctt_count: CttCount = FIRST_WORD
) -> PairTokens | str:
    """Find the prompt and the answers of two sentences.

    Args:
        right: The acceptable sentence.
        wrong: The unacceptable sentence.
        rule: One of `RULES`.
        unknown: Id of the tokenizer's unknown token; None if it has none.
        ctt_count: What the rule ``ctt`` counts.

    Returns:
        The tokens, or the reason why the pair is left out.
    """
    # Compare the sentences as tokens and as text
    if right.text == wrong.text:
        return SAME
    if list(right.ids) == list(wrong.ids):
        return SAME_TOKENS
    answer = _first_difference(right.ids, wrong.ids)
    start, (right_end, wrong_end) = _first_differing_words(right.text, wrong.text)
    right_word, wrong_word = right.text[start:right_end], wrong.text[start:wrong_end]

    # Reject pairs whose answer tokens do not lie in the words that differ
    if right_word == wrong_word or not right_word or not wrong_word:
        is_prefix = right.text.startswith(wrong.text) or wrong.text.startswith(right.text)
        return PREFIX if is_prefix else BLANK
    right_is_past, wrong_is_past = right.is_past(answer, right_end), wrong.is_past(answer, wrong_end)
    if right_is_past and wrong_is_past:
        return SAME_TOKENS
    if right_is_past or wrong_is_past:
        return PREFIX
    if answer == 0:
        return NO_PROMPT
    if unknown is not None and unknown in (right.ids[answer], wrong.ids[answer]):
        return UNKNOWN

    # Reject answers by their number of tokens
    if rule == "ctt":
        if ctt_count.counted == "rest":
            right_end, wrong_end = ctt_count.ends or (right_end, wrong_end)
            lengths = right.tokens_from(answer, right_end), wrong.tokens_from(answer, wrong_end)
        else:
            if ctt_count.counted == "spaced-word":
                right_end, wrong_end = _word_end(right.text, start), _word_end(wrong.text, start)
                start = max(start - 1, 0)
            lengths = right.tokens_in(start, right_end), wrong.tokens_in(start, wrong_end)
        if lengths[0] != lengths[1]:
            return LENGTHS
        if lengths[0] > 2:
            return TOO_LONG
    return PairTokens(tuple(right.ids[:answer]), right.ids[answer], wrong.ids[answer])


def with_patch(clean: PairTokens, patch: PairTokens | str) -> PairTokens | str:
    """Add the patch prompt to the tokens of a pair, or say why it does not fit the clean prompt."""
    if isinstance(patch, str):
        return PATCH_ANSWERS
    if len(patch.prompt) != len(clean.prompt):
        return PATCH_LENGTH
    if (patch.right, patch.wrong) != (clean.wrong, clean.right):
        return PATCH_ANSWERS
    return PairTokens(clean.prompt, clean.right, clean.wrong, patch.prompt)


def _first_difference(first: Sequence[Any], second: Sequence[Any]) -> int:
    """The first index at which two sequences differ; the length of the shorter if it begins the longer."""
    shorter = min(len(first), len(second))
    return next((i for i in range(shorter) if first[i] != second[i]), shorter)


def _first_differing_words(right: str, wrong: str) -> tuple[int, tuple[int, int]]:
    """The common start of the first words in which two texts differ, and the end of each.

    Words are separated by whitespace. Trailing punctuation is not part of a word unless it is the only difference: in
    ``reference.`` against ``references.`` the full stop must not be taken for an answer.
    """
    start = _first_difference(right, wrong)
    while start > 0 and not right[start - 1].isspace():
        start -= 1
    right_end, wrong_end = _word_end(right, start), _word_end(wrong, start)
    right_bare, wrong_bare = (
        _without_punctuation(right, start, right_end),
        _without_punctuation(wrong, start, wrong_end),
    )
    if right[start:right_bare] == wrong[start:wrong_bare]:
        return start, (right_end, wrong_end)
    return start, (right_bare, wrong_bare)


def _word_end(text: str, start: int) -> int:
    """The index of the first whitespace from `start` on, or the length of the text."""
    return next((i for i in range(start, len(text)) if text[i].isspace()), len(text))


def _without_punctuation(text: str, start: int, end: int) -> int:
    """The end of a word without its trailing punctuation; a word of punctuation alone is left as it is."""
    bare = end
    while bare > start and unicodedata.category(text[bare - 1])[0] in "PS":
        bare -= 1
    return bare if bare > start else end
