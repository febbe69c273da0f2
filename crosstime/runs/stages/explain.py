"""Ask whether dips in accuracy are the doing of features that are given up, or that have emerged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from crosstime.effects.explain_dip import COLUMNS, Dip, explain_dip
from crosstime.machine.storage import read_json, write_json
from crosstime.runs.experiment import Experiment
from crosstime.runs.parts import Pieces
from crosstime.runs.stages.stage import Stage
from crosstime.suites.find_dips import DipCheckpoints, find_dips


class Explain(Stage):
    """Writes dips.csv, the tables of all dips, and dips.json, which features and what was found."""

    name: ClassVar[str] = "explain"
    title: ClassVar[str] = "dips explained"

    def inputs(self, experiment: Experiment) -> Any:
        """Accuracy, by which dips are found, the effects, and how they are explained."""
        return [experiment.ledger.key("select"), experiment.ledger.key("attribute"), asdict(experiment.recipe.dip)]

    def files(self, experiment: Experiment) -> list[str]:
        """The tables, and the findings; both without entries where no task dips."""
        return ["dips.csv", "dips.json"]

    def work(self, experiment: Experiment, pieces: Pieces) -> None:
        """See `crosstime.find_dips` and `crosstime.explain_dip`; one piece a dip."""
        found = [_explained(experiment, pieces, place) for place in _places(experiment)]
        tables = [dip.table.assign(dip=dip.task, at=dip.at, other=dip.other) for dip in found]
        columns = ["dip", "at", "other", *COLUMNS]
        empty = pd.DataFrame(columns=columns)
        experiment.write("dips", pd.concat(tables, ignore_index=True)[columns] if found else empty)
        facts = [
            {
                "task": dip.task, "at": dip.at, "other": dip.other, "given_up": dip.given_up, "harmful": dip.harmful,
                "helpful": dip.helpful, "explained": dip.explained, "sentence": dip.sentence(),
            }
            for dip in found
        ]  # fmt: skip
        write_json(experiment.folder / "dips.json", facts)


def _places(experiment: Experiment) -> list[DipCheckpoints]:
    settings = experiment.recipe.dip
    if settings.task is not None and settings.at is not None and settings.other is not None:
        return [DipCheckpoints(settings.task, settings.at, settings.other)]
    return find_dips(experiment.table("accuracy"), experiment.compared.revisions)


def _explained(experiment: Experiment, pieces: Pieces, place: DipCheckpoints) -> Dip:
    names = [task.name for task in experiment.tasks]
    index, settings = names.index(place.task), experiment.recipe.dip

    def write(path: Path) -> None:
        attribution = experiment.attribution(index)
        dip = explain_dip(
            experiment.compared, experiment.crosscoder, attribution.decomposed, place.at, place.other,
            others=[experiment.decomposed(other) for other in range(len(names)) if other != index],
            attribution=attribution, top=settings.top, prompts=settings.prompts, draws=settings.draws,
            seed=experiment.recipe.seed, compute=experiment.compute,
        )  # fmt: skip
        write_json(path, dip.to_dict())

    return Dip.of(read_json(pieces.keep(f"{index}.json", write)))
