"""What a crosscoder was trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from interventions import Site

TEXT_START = "text_start"
"""Key of `Origin.training`: ids of the tokens with which documents of the training text began; absent for none."""

ORDERED = "ordered"
"""Key of `Origin.training`: false for models side by side (`Suite.of`); absent for checkpoints in order."""

ROWS = "rows"
"""Key of `Origin.training`: what the rows were that training took in place of activations; absent for activations."""


@dataclass(frozen=True)
class Origin:
    """The checkpoints and the site that a crosscoder was trained on, saved with its weights.

    Attributes:
        suite: name of the suite.
        revisions: the C checkpoints, in the order of the crosscoder's checkpoint axis.
        site: where in the model the activations were read.
        d_model: D, the width of the activations.
        training: configuration, seed, tokens and corpus of the training, as plain values.

    Examples:
        >>> Origin("tiny", ("step64", "main"), Site(1), d_model=8).revisions
        ('step64', 'main')
    """

    suite: str
    revisions: tuple[str, ...]
    site: Site
    d_model: int
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def text_start(self) -> tuple[int, ...]:
        """Ids of the tokens with which documents of the training text began."""
        start = self.training.get(TEXT_START, ())
        return tuple(token for token in start if isinstance(token, int)) if isinstance(start, list | tuple) else ()

    @property
    def ordered(self) -> bool:
        """Whether the checkpoints are points of one training in order, rather than models side by side."""
        return self.training.get(ORDERED, True) is not False

    @property
    def rows(self) -> str | None:
        """What the rows were that training took in place of activations, such as ``W_U``; None for activations."""
        rows = self.training.get(ROWS)
        return rows if isinstance(rows, str) else None

    def to_json(self) -> dict[str, Any]:
        """The origin as a JSON object."""
        return asdict(self) | {"site": str(self.site)}

    @classmethod
    def from_json(cls, fields: Any) -> Origin:
        """Read the object that `to_json` wrote; `fields` may come from a file that somebody else wrote.

        Raises:
            KeyError: a field is missing.
            TypeError: a field holds a value of the wrong type.
            ValueError: the site or the width cannot be read.
        """
        suite, revisions, training = fields["suite"], fields["revisions"], fields["training"]
        if not isinstance(suite, str) or not isinstance(training, dict):
            raise TypeError("the suite of its origin is not a text, or training is not an object")
        if not isinstance(revisions, list) or not all(isinstance(revision, str) for revision in revisions):
            raise TypeError("the revisions of its origin are not a list of texts")
        return cls(suite, tuple(revisions), Site.parse(str(fields["site"])), int(fields["d_model"]), training)
