"""The stages of a run, in order."""

from __future__ import annotations

from crosstime.errors import RunError
from crosstime.recipe import Recipe
from crosstime.stages.ablating import Ablate
from crosstime.stages.attributing import Attribute
from crosstime.stages.evaluating import Evaluate
from crosstime.stages.evolving import Evolve
from crosstime.stages.explaining import Explain
from crosstime.stages.making_suite import MakeSuite
from crosstime.stages.reporting import Report
from crosstime.stages.selecting import Select
from crosstime.stages.stage import Stage
from crosstime.stages.training import Train
from tasks.errors import nearest

STAGES: tuple[Stage, ...] = (
    MakeSuite(), Select(), Train(), Evaluate(), Attribute(), Ablate(), Evolve(), Explain(), Report(),
)  # fmt: skip
NAMES = tuple(stage.name for stage in STAGES)


def stages_of(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages that a recipe has."""
    return tuple(stage for stage in STAGES if stage.wanted(recipe))


def check_names(names: list[str] | tuple[str, ...]) -> None:
    """Refuse names of stages that do not exist.

    Raises:
        RunError: with the nearest.
    """
    for name in names:
        if name not in NAMES:
            raise RunError(f"there is no stage {name!r}: {nearest(name, NAMES)}")
