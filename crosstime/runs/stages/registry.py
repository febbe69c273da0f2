"""The stages of a run, in order."""

from __future__ import annotations

from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.ablate import Ablate
from crosstime.runs.stages.attribute import Attribute
from crosstime.runs.stages.baselines import Baselines
from crosstime.runs.stages.evaluate import Evaluate
from crosstime.runs.stages.evaluate_rows import EvaluateRows
from crosstime.runs.stages.evolve import Evolve
from crosstime.runs.stages.evolve_rows import EvolveRows
from crosstime.runs.stages.explain import Explain
from crosstime.runs.stages.make_suite import MakeSuite
from crosstime.runs.stages.names import NAMES, asks_for
from crosstime.runs.stages.ngrams import Ngrams
from crosstime.runs.stages.null import Null
from crosstime.runs.stages.replicate import Replicate
from crosstime.runs.stages.report import Report
from crosstime.runs.stages.report_rows import ReportRows
from crosstime.runs.stages.select import Select
from crosstime.runs.stages.stability import StabilityOfEffects
from crosstime.runs.stages.stage import Stage
from crosstime.runs.stages.train import Train
from crosstime.runs.stages.train_rows import TrainRows

_BY_NAME: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        MakeSuite(),
        Select(),
        Ngrams(),
        Train(),
        Evaluate(),
        Attribute(),
        Ablate(),
        Evolve(),
        Explain(),
        Replicate(),
        StabilityOfEffects(),
        Baselines(),
        Null(),
        Report(),
    )
}
_ON_ROWS: dict[str, Stage] = {stage.name: stage for stage in (TrainRows(), EvaluateRows(), EvolveRows(), ReportRows())}
"""What takes the place of a stage in a recipe on rows of parameters."""
STAGES: tuple[Stage, ...] = tuple(_BY_NAME[name] for name in NAMES)


def stages_of(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages of a recipe."""
    values = recipe.to_dict()
    stages = tuple(stage for stage in STAGES if asks_for(values, stage.name))
    return tuple(_ON_ROWS.get(stage.name, stage) for stage in stages) if recipe.rows.matrices else stages
