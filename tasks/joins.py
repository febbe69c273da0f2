"""How the answer joins the prompt: a warning where a blank between the two is missing, or is there twice."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Sequence

from tasks.minimal_pair import MinimalPair

UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""First words of the Unicode names of letters of scripts that put no blank between words."""


def warn_of_missing_blanks(task: str, joins: Sequence[tuple[str, str, str]]) -> None:
    """Warn of prompts and answers that join letter to letter, such as ``The cats`` and ``are``.

    Args:
        task: Name of the task.
        joins: For each pair its prompt, the right and the wrong answer, which are concatenated as they are.

    Examples:
        >>> warn_of_missing_blanks("mine", [("The cats", " are", " is")])
    """
    joined = [prompt + right for prompt, right, wrong in joins if _touch(prompt, right) and _touch(prompt, wrong)]
    if joined:
        _warn(
            f"{task}: in {_counted(len(joined), len(joins))}, prompt and answer join letter to letter, such as "
            f"{joined[0]!r}: begin the answers with a blank, unless they are parts of words"
        )


def warn_of_doubled_blanks(task: str, pairs: Iterable[MinimalPair]) -> None:
    """Warn of pairs with two blanks before the words in which their sentences differ.

    A tokenizer makes a token of the first of the two, so that the answers are asked for after a text of a kind that
    models hardly ever see.

    Args:
        task: Name of the task.
        pairs: Its pairs.

    Examples:
        >>> warn_of_doubled_blanks("mine", [MinimalPair("The cats are", "The cats is")])
    """
    n_pairs, doubled = 0, []
    for pair in pairs:
        n_pairs += 1
        before = pair.right[: _start_of_difference(pair.right, pair.wrong)]
        if len(before) - len(before.rstrip()) > 1 and before.strip():
            doubled.append(pair.right)
    if doubled:
        _warn(
            f"{task}: in {_counted(len(doubled), n_pairs)}, the answer follows two blanks, such as {doubled[0]!r}: "
            "leave out the blank at the end of the prompt, or the one at the start of the answers"
        )


def _touch(prompt: str, answer: str) -> bool:
    """Whether a letter of the prompt is followed by a letter of the answer, in a script with blanks between words."""
    if not (prompt and answer):
        return False
    return all(letter.isalpha() and not _is_unspaced(letter) for letter in (prompt[-1], answer[0]))


def _is_unspaced(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(UNSPACED)


def _start_of_difference(right: str, wrong: str) -> int:
    """The index of the first character of the first words in which two sentences differ."""
    shorter = min(len(right), len(wrong))
    start = next((index for index in range(shorter) if right[index] != wrong[index]), shorter)
    while start > 0 and not right[start - 1].isspace():
        start -= 1
    return start


def _counted(count: int, total: int) -> str:
    """``all 50 pairs``, or ``3 of 50 pairs``."""
    if count == total:
        return "its only pair" if total == 1 else f"all {total:,} pairs"
    return f"{count:,} of {total:,} pairs"


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
