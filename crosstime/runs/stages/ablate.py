"""Take features away, and see what the model loses."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd

from crosstime.effects.ablate import ablate
from crosstime.effects.faithfulness import ranking, sufficiency_curves
from crosstime.runs.experiment import Experiment
from crosstime.runs.findings import ablation_groups
from crosstime.runs.parts import Pieces
from crosstime.runs.stages.stage import Stage


class Ablate(Stage):
    """Writes ablation.csv and faithfulness.csv."""

    name: ClassVar[str] = "ablate"
    title: ClassVar[str] = "ablations"

    def inputs(self, experiment: Experiment) -> Any:
        """The effects, by which features are selected."""
        return experiment.ledger.key("attribute")

    def files(self, experiment: Experiment) -> list[str]:
        """The tables."""
        return ["ablation.csv", "faithfulness.csv"]

    def work(self, experiment: Experiment, pieces: Pieces) -> None:
        """See `crosstime.ablate`, `crosstime.runs.findings` and `crosstime.sufficiency_curves`; two pieces a task."""
        effects, tasks = experiment.table("effects"), range(len(experiment.tasks))
        singly = [
            pieces.table(f"{index}.csv", lambda index=index: _ablation(experiment, effects, index)) for index in tasks
        ]
        jointly = [
            pieces.table(f"joint-{index}.csv", lambda index=index: _faithfulness(experiment, index)) for index in tasks
        ]
        experiment.write("ablation", pd.concat(singly, ignore_index=True))
        experiment.write("faithfulness", pd.concat(jointly, ignore_index=True))


def _faithfulness(experiment: Experiment, task: int) -> pd.DataFrame:
    attribution = experiment.attribution(task)
    return sufficiency_curves(
        experiment.compared, experiment.crosscoder, attribution.decomposed, ranking(attribution),
        seed=experiment.recipe.seed, compute=experiment.compute,
    )  # fmt: skip


def _ablation(experiment: Experiment, effects: pd.DataFrame, task: int) -> pd.DataFrame:
    seed, decomposed = experiment.recipe.seed, experiment.decomposed(task)
    groups = ablation_groups(effects, decomposed, seed=seed)
    table = ablate(
        experiment.compared, experiment.crosscoder, decomposed, {name: group.features for name, group in groups.items()},
        seed=seed, compute=experiment.compute,
    )  # fmt: skip
    table.insert(2, "kind", table.features.map({name: group.kind for name, group in groups.items()}))
    return table
