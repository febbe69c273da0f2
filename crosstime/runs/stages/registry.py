"""The stages of a run, in order."""

from __future__ import annotations

from collections.abc import Sequence

from crosstime.errors import RunError
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.ablate import Ablate
from crosstime.runs.stages.attribute import Attribute
from crosstime.runs.stages.evaluate import Evaluate
from crosstime.runs.stages.evolve import Evolve
from crosstime.runs.stages.explain import Explain
from crosstime.runs.stages.make_suite import MakeSuite
from crosstime.runs.stages.ngrams import Ngrams
from crosstime.runs.stages.report import Report
from crosstime.runs.stages.select import Select
from crosstime.runs.stages.stage import Stage
from crosstime.runs.stages.train import Train
from user_input.nearest import nearest

STAGES: tuple[Stage, ...] = (
    MakeSuite(),
    Select(),
    Ngrams(),
    Train(),
    Evaluate(),
    Attribute(),
    Ablate(),
    Evolve(),
    Explain(),
    Report(),
)
NAMES = tuple(stage.name for stage in STAGES)


def stages_of(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages of a recipe."""
    return tuple(stage for stage in STAGES if stage.is_part_of(recipe))


def refuse_unknown(names: Sequence[str]) -> None:
    """Refuse names of stages that do not exist.

    Raises:
        RunError: the sentence names the nearest stage.
    """
    for name in names:
        if name not in NAMES:
            raise RunError(f"there is no stage {name!r}: {nearest(name, NAMES)}")
