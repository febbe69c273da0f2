"""What a stage of a run is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from crosstime.runs.experiment import Experiment
from crosstime.runs.parts import Pieces
from crosstime.runs.recipe.recipe import Recipe


class Stage(ABC):
    """A step of a run that is done once: it names what decides its result, and the files that hold it.

    To add one, write a class like those beside this file and put it into `crosstime.runs.stages.STAGES`; keys,
    checksums, resuming, ``--force`` and ``crosstime status`` follow from it.

    Attributes:
        name: as in the manifest and in ``--force``.
        title: what it makes, in words, for people.
        together: whether all processes of ``torchrun`` work on it; otherwise the first does, and the others wait.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    together: ClassVar[bool] = False

    def wanted(self, recipe: Recipe) -> bool:
        """Whether a recipe has this stage."""
        return True

    @abstractmethod
    def inputs(self, experiment: Experiment) -> Any:
        """Plain values that decide the result; keys of the stages that it builds on are among them."""

    @abstractmethod
    def files(self, experiment: Experiment) -> list[str]:
        """What it writes, relative to the run's folder."""

    @abstractmethod
    def work(self, experiment: Experiment, pieces: Pieces) -> None:
        """Write the files, each whole or not at all; parts worth keeping when the run is stopped go to `pieces`.

        Where processes work together, only the first writes files; any of them writes pieces.
        """
