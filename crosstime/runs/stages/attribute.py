"""Find the indirect effect of every feature on every task, at every checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from crosstime.effects.attribute import attribute
from crosstime.effects.effects_file import read_effects, write_effects
from crosstime.errors import RunError
from crosstime.machine.tensors import write_tensors
from crosstime.runs.experiment import Experiment, effects_file
from crosstime.runs.parts import Pieces
from crosstime.runs.sharding import BLOCK, blocks, joined_effects, own, some_prompts, wait
from crosstime.runs.stages.stage import Stage


class Attribute(Stage):
    """Writes effects.csv, error_term.csv, completeness.csv, effects.safetensors and attribution/."""

    name: ClassVar[str] = "attribute"
    title: ClassVar[str] = "indirect effects"
    together: ClassVar[bool] = True

    def inputs(self, experiment: Experiment) -> Any:
        """The crosscoder, the tasks, and how effects are computed."""
        effects = asdict(experiment.recipe.effects)
        return {"crosscoder": experiment.ledger.key("train"), "effects": effects, **experiment.task_inputs()}

    def files(self, experiment: Experiment) -> list[str]:
        """Tables of the selected features, and the effects of all."""
        whole = [effects_file(index) for index in range(len(experiment.tasks))]
        return ["effects.csv", "error_term.csv", "completeness.csv", "effects.safetensors", *whole]

    def work(self, experiment: Experiment, pieces: Pieces) -> None:
        """See `crosstime.attribute`; one piece a block of prompts."""
        parts = [(task, rows) for task in range(len(experiment.tasks)) for rows in _rows(experiment, task)]
        for task, rows in own(parts, experiment.processes):
            _effects(experiment, pieces, task, rows)
        wait(experiment.processes)
        if not experiment.processes.first:
            return
        for task in range(len(experiment.tasks)):
            found = [read_effects(_effects(experiment, pieces, task, rows)) for rows in _rows(experiment, task)]
            write_effects(experiment.folder / effects_file(task), joined_effects(found))
        recipe = experiment.recipe
        found = [experiment.attribution(index) for index in range(len(experiment.tasks))]
        chosen = list(dict.fromkeys(feature for one in found for feature in one.top(recipe.effects.top)))
        if not chosen:
            raise RunError(
                "no feature has an effect on any task: the crosscoder learned nothing that fires there; train it "
                "for more steps, or with a smaller l1"
            )
        options = {"resamples": recipe.effects.resamples, "seed": recipe.seed}
        experiment.write("effects", pd.concat([one.table(chosen, **options) for one in found], ignore_index=True))
        experiment.write("error_term", pd.concat([one.error_table(**options) for one in found], ignore_index=True))
        rows = [
            {"task": one.task, "revision": revision, "completeness_error": missed}
            for one in found
            for revision, missed in one.completeness().items()
        ]
        experiment.write("completeness", pd.DataFrame(rows))
        tensors = {one.task: one.ie().float() for one in found}
        write_tensors(
            experiment.folder / "effects.safetensors", tensors, {"rows": "checkpoints", "columns": "features"}
        )


def _rows(experiment: Experiment, task: int) -> list[range]:
    """The blocks of a task's prompts; one, where the baseline is made of all prompts."""
    count = len(experiment.tokenized[task])
    whole = experiment.recipe.effects.baseline in ("mean", "resample")
    return blocks(count, count if whole else BLOCK)


def _effects(experiment: Experiment, pieces: Pieces, task: int, rows: range) -> Path:
    """The piece with the effects on some prompts of a task."""
    settings = experiment.recipe.effects

    def write(path: Path) -> None:
        prompts = experiment.tokenized[task]
        whole = len(rows) == len(prompts)
        found = attribute(
            experiment.compared, experiment.crosscoder,
            experiment.decomposed(task) if whole else some_prompts(prompts, rows), method=settings.method,
            baseline=settings.baseline, metric=settings.metric, quadrature=settings.quadrature, steps=settings.steps,
            tolerance=settings.tolerance, seed=experiment.recipe.seed, compute=experiment.compute,
        )  # fmt: skip
        write_effects(path, found.effects)

    return pieces.keep(f"{task}-{rows.start}.safetensors", write)
