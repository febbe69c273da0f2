"""A minimal pair: an acceptable and an unacceptable sentence, with their patched counterparts where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.errors import TaskError


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
