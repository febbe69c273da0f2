"""The texts that a feature fires on, token by token, and how to make every character of a token visible."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from crosstime.errors import ReportError

_SIGNS = {"\n": "↵", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", "\u2028": "↵", "\u2029": "↵"}
_JOINERS = "\u200c\u200d"  # needed by Persian and Indic scripts and by emoji made of several


@dataclass(frozen=True)
class Context:
    """One prompt or piece of text, and how strongly a feature fires on each of its tokens.

    Attributes:
        task: the task the prompt is from; for text of a corpus, the corpus' name.
        tokens: the text of each token, its leading space included.
        activations: of the feature, one a token, in the units of the crosscoder's code.
        right: the right continuation; empty for text of a corpus.
        wrong: the wrong one.
        label: a few words shown beside the prompt ("singular", a checkpoint), or nothing.
        source: ``task`` or ``corpus``.
        effects: revision -> the feature's indirect effect at each token there, where it was measured by position.

    Raises:
        ReportError: when there is not one activation, or one effect, per token.

    Examples:
        >>> Context("agreement", ("The", " author"), (0.0, 3.1), right=" is", wrong=" are").peak
        3.1
    """

    task: str
    tokens: tuple[str, ...]
    activations: tuple[float | int, ...]
    right: str = ""
    wrong: str = ""
    label: str = ""
    source: str = "task"
    effects: Mapping[str, tuple[float | int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in (
            ("activations", self.activations),
            *((f"effects at {r}", e) for r, e in self.effects.items()),
        ):
            if len(self.tokens) != len(values):
                raise ReportError(
                    f"a context of task {self.task!r} has {len(self.tokens)} tokens but {len(values)} {name}"
                )

    @property
    def peak(self) -> float | int:
        """The largest finite activation, or 0 where there is none."""
        return max((value for value in self.activations if math.isfinite(value)), default=0.0)


def pieces(token: str) -> list[str]:
    """Split a token into text and signs in turn, text first, so that white space and invisible characters show.

    The space before a word stays a space; white space at an end of a token or alone gets a sign. Control
    and format characters, among them those that reorder text, are replaced by their code point.

    Examples:
        >>> pieces(" is"), pieces("a\\n"), pieces(" ")
        ([' is'], ['a', '↵'], ['', '␣'])
    """
    if token == "":
        return ["", "∅"]
    body = token[1:] if token[0] == " " and token.strip(" ") else token
    parts = [token[: len(token) - len(body)]]
    end = len(body.rstrip(" "))
    for place, character in enumerate(body):
        sign = _SIGNS.get(character)
        if character == " " and (place >= end or place == 0):
            sign = "␣"
        elif sign is None and character not in _JOINERS and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co"):
            sign = f"U+{ord(character):04X}"
        # Text has the even places, signs the odd ones.
        wanted = sign is not None
        if (len(parts) % 2 == 0) != wanted:
            parts.append("")
        parts[-1] += character if sign is None else sign
    return parts
