"""What a stage of a run is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from crosstime.report.about_models import about_models
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost
from crosstime.runs.recipe.recipe import Recipe


class Stage(ABC):
    """A step of a run: what its result depends on, the files that hold it, what it costs, and the work itself.

    To add a stage, write a class like those next to this file and list it in `crosstime.runs.stages.registry`; keys,
    checksums, resuming, ``--force``, ``--dry-run`` and ``crosstime status`` follow from it.

    Attributes:
        name: name in the manifest and for ``--force``.
        title: what it makes, in words about checkpoints.
        collective: whether all processes of ``torchrun`` work on it; otherwise the first does, and the others wait.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    collective: ClassVar[bool] = False

    def title_of(self, recipe: Recipe) -> str:
        """What it makes, in the words of a recipe, whose models may stand side by side."""
        return about_models(self.title) if recipe.suite.models else self.title

    @abstractmethod
    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """Plain values that decide the result, the keys of earlier stages among them."""

    @abstractmethod
    def files(self, recipe: Recipe) -> list[str]:
        """The files that it writes, relative to the run's folder."""

    @abstractmethod
    def cost(self, sizes: Sizes) -> Cost:
        """What it costs, from the sizes of the run."""

    @abstractmethod
    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """Do it and write the files, each atomically.

        If processes work together, only the first writes files; all of them write parts.

        Args:
            inputs: what the run starts from.
            folder: the run's folder, with the results of earlier stages.
            parts: where finished parts are kept, so that a stopped stage resumes from them.
        """
