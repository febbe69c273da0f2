"""The ``[dip]`` table of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosstime.errors import RecipeError
from tasks.errors import nearest


@dataclass(frozen=True)
class DipRecipe:
    """Which dips in accuracy are to be explained, and how; see `crosstime.explain_dip`.

    Attributes:
        task, at, other: the dip's task and its two checkpoints; default: what `crosstime.find_dips` finds in all tasks.
        top: features that are looked at, by |IE|.
        prompts: on which features are ablated, at most.
        draws: of the controls.
    """

    task: str | None = None
    at: str | None = None
    other: str | None = None
    top: int = 100
    prompts: int = 200
    draws: int = 100

    def __post_init__(self) -> None:
        given = [name for name in ("task", "at", "other") if getattr(self, name) is not None]
        if given and len(given) < 3:
            raise RecipeError(f"a dip has a task, at and other, all three or none; got {' and '.join(given)}.")
        if self.at is not None and self.at == self.other:
            raise RecipeError(f"at and other are two checkpoints, not {self.at!r} twice.")
        for name in ("top", "prompts", "draws"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} must be at least 1, not {getattr(self, name)}.")

    def refuse_other(self, tasks: Sequence[str], compared: Sequence[str] | None) -> None:
        """Refuse a dip of a task or checkpoint that the recipe does not have.

        Raises:
            RecipeError: with the nearest.
        """
        if self.task is not None and self.task not in tasks:
            raise RecipeError(f"dip.task: there is no task {self.task!r}: {nearest(self.task, tasks)}")
        for name in ("at", "other"):
            revision = getattr(self, name)
            if revision is not None and compared is not None and revision not in compared:
                raise RecipeError(f"dip.{name}: {revision!r} is not compared: {nearest(revision, compared)}")
