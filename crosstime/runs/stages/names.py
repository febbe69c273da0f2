"""Names of the stages of a run, in order, so that they can be checked without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

from crosstime.errors import RunError
from user_input.nearest import nearest

NAMES = (
    "suite",
    "select",
    "ngrams",
    "train",
    "evaluate",
    "attribute",
    "ablate",
    "evolve",
    "explain",
    "replicate",
    "stability",
    "baselines",
    "null",
    "report",
)


def refuse_unknown(names: Sequence[str]) -> None:
    """Refuse names of stages that do not exist.

    Raises:
        RunError: the sentence names the nearest stage.
    """
    for name in names:
        if name not in NAMES:
            raise RunError(f"there is no stage {name!r}: {nearest(name, NAMES)}")
