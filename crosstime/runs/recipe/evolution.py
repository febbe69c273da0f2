"""The tables of a recipe about change over training: ``[evolve]`` and ``[dip]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crosstime.errors import RecipeError
from crosstime.runs.recipe.limits import at_least
from user_input.nearest import nearest


@dataclass(frozen=True)
class EvolveRecipe:
    """How features are followed over training; see `crosstime.evolve`.

    Attributes:
        text: also read held-out text, for the test of presence, latent scaling and kinds of features.
        kinds: with text, also find what each feature responds to; this reads random and repeated sequences too, three
            times the tokens of the text.
        languages: text of each language by its name, at least two, for language specificity.
        sequences: sequences that are read of each text.
        resamples: number of resamples of the bootstrap, and of permutations.
    """

    text: bool = True
    kinds: bool = True
    languages: dict[str, str] = field(default_factory=dict)
    sequences: int = 128
    resamples: int = 1_000

    def __post_init__(self) -> None:
        at_least(self, sequences=1, resamples=1)
        if len(self.languages) == 1:
            raise RecipeError(f"languages are compared, so name at least two, not {next(iter(self.languages))} alone.")


@dataclass(frozen=True)
class DipRecipe:
    """Which dips in accuracy are explained, and how; see `crosstime.explain_dip`.

    Attributes:
        task, at, other: the dip's task and its two checkpoints; default: what `crosstime.find_dips` finds in all tasks.
        top: features that are considered, by |IE|.
        prompts: upper bound of the number of prompts on which features are ablated.
        draws: random controls.
    """

    task: str | None = None
    at: str | None = None
    other: str | None = None
    top: int = 100
    prompts: int = 200
    draws: int = 100

    def __post_init__(self) -> None:
        keys = [name for name in ("task", "at", "other") if getattr(self, name) is not None]
        if keys and len(keys) < 3:
            values = " and ".join(f"{name} = {getattr(self, name)!r}" for name in keys)
            raise RecipeError(f"a dip has a task, at and other, all three or none; got {values}.")
        if self.at is not None and self.at == self.other:
            raise RecipeError(f"at and other are two checkpoints, not {self.at!r} twice.")
        at_least(self, top=1, prompts=1, draws=1)

    def refuse_unknown(self, tasks: Sequence[str], compared: Sequence[str] | None) -> None:
        """Refuse a dip of a task or checkpoint that the recipe does not have.

        Args:
            tasks: names of the recipe's tasks.
            compared: the crosscoder's checkpoints; None if they are not chosen yet.

        Raises:
            RecipeError: the sentence names the nearest task or checkpoint.
        """
        if self.task is not None and self.task not in tasks:
            raise RecipeError(f"dip.task: there is no task {self.task!r}: {nearest(self.task, tasks)}")
        for name in ("at", "other"):
            revision = getattr(self, name)
            if revision is not None and compared is not None and revision not in compared:
                raise RecipeError(f"dip.{name}: {revision!r} is not compared: {nearest(revision, compared)}")
