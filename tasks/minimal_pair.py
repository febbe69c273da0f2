"""A minimal pair: an acceptable and an unacceptable sentence, with their patched counterparts where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.errors import TaskError
from user_input.nearest import nearest

COUNTED = ("word", "spaced-word", "rest")
"""What the rule ``ctt`` can count, see `CttCount`."""


@dataclass(frozen=True, slots=True)
class CttCount:
    """Which tokens of a sentence the rule ``ctt`` counts; Crosscoding Through Time counts differently by data set.

    Attributes:
        counted: ``"word"``: the first word that differs, without punctuation. ``"spaced-word"``: this word with the
            blank before it and the punctuation after it (its code for CLAMS and MultiBLiMP). ``"rest"``: what is left
            of the answer after the first tokens that both sentences share (its code for BLiMP).
        ends: for ``"rest"``, where the answers end in the right and in the wrong sentence, in characters; None is the
            end of the first word that differs.

    Raises:
        TaskError: Another value of `counted`.
    """

    counted: str = "word"
    ends: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.counted not in COUNTED:
            raise TaskError(f"the rule ctt cannot count {self.counted!r}: {nearest(self.counted, COUNTED)}")


FIRST_WORD = CttCount()


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """An acceptable and an unacceptable sentence that differ in one word, optionally with their patch counterparts.

    The patch prompt is the clean prompt with the deciding word changed, so that the answers swap: its right answer is
    the wrong answer of the clean prompt. A pair has both patch sentences or neither.

    Attributes:
        right: The acceptable sentence.
        wrong: The unacceptable sentence.
        patch_right: The patch prompt, continued by its own right answer.
        patch_wrong: The patch prompt, continued by its own wrong answer.
        labels: What the source says about the pair, e.g. ``{"case": "plural_singular"}``.
        where: The origin of the pair, quoted in error messages, e.g. ``"simple_test.json:17"``.
        ctt_count: What the tokenization rule ``ctt`` counts.

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
    ctt_count: CttCount = FIRST_WORD

    def __post_init__(self) -> None:
        if (self.patch_right is None) != (self.patch_wrong is None):
            raise TaskError(f"{self.where or 'a pair'}: patch_right and patch_wrong come both or not at all")
