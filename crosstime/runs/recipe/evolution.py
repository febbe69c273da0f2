"""The tables of a recipe about time: ``[evolve]`` and ``[dip]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crosstime.errors import RecipeError
from crosstime.runs.recipe.tables import at_least
from user_input.nearest import nearest


@dataclass(frozen=True)
class EvolveRecipe:
    """What is said of features over time; see `crosstime.evolve`.

    Attributes:
        text: also look at the features on held-out text: their kinds, and latent scaling.
        languages: text of each language by its name, at least two, for language specificity.
        sequences: how much is read of each text.
        resamples: of the bootstrap and of permutations.
    """

    text: bool = True
    languages: dict[str, str] = field(default_factory=dict)
    sequences: int = 128
    resamples: int = 1_000

    def __post_init__(self) -> None:
        at_least(self, sequences=1, resamples=1)
        if len(self.languages) == 1:
            raise RecipeError(f"languages are compared, so name at least two, not {next(iter(self.languages))} alone.")


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
        at_least(self, top=1, prompts=1, draws=1)

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
