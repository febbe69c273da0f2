"""The texts on which a feature fires, token by token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from crosstime.errors import ReportError

ROWS = "rows"
"""Source of a context that is a list of rows of parameters."""


@dataclass(frozen=True)
class Context:
    """A prompt or an excerpt of a corpus, and the activation of a feature on each of its tokens.

    Of a crosscoder of parameters, a context is the list of the rows on which the feature fires most strongly, and a
    token is the label of a row.

    Attributes:
        task: name of the task that the prompt belongs to, or of the corpus.
        tokens: text of each token, including its leading space; tokens that make one character together are one.
        activations: activation of the feature on each token, in the units of the crosscoder's code.
        right: the right continuation; empty for a corpus.
        wrong: the wrong continuation; empty for a corpus.
        label: a few words shown next to the prompt ("singular", a checkpoint), or the empty string.
        source: ``task``, ``corpus``, or ``rows``.
        effects: indirect effect of the feature at each token, by revision, where it was measured by position.

    Raises:
        ReportError: when the number of activations, or of effects, differs from the number of tokens.

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
        by_token = {"activations": self.activations}
        by_token |= {f"effects at {revision}": effects for revision, effects in self.effects.items()}
        for name, values in by_token.items():
            if len(self.tokens) != len(values):
                raise ReportError(
                    f"a context of task {self.task!r} has {len(self.tokens)} tokens but {len(values)} {name}"
                )

    @property
    def peak(self) -> float | int:
        """The largest finite activation, or 0 if there is none."""
        return max((value for value in self.activations if math.isfinite(value)), default=0.0)
