"""Measure how well every checkpoint does the tasks and, where the recipe leaves it open, choose which to compare."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

import pandas as pd

from crosstime.machine.storage import write_json, write_table
from crosstime.runs.experiment import SELECTION, Experiment
from crosstime.runs.parts import Pieces
from crosstime.runs.sharding import own, wait
from crosstime.runs.stages.stage import Stage
from crosstime.suites.accuracy import accuracy
from crosstime.suites.corpus import TextSample
from crosstime.suites.select import select
from crosstime.suites.similarity import similarity
from interventions import Bootstrap


class Select(Stage):
    """Writes accuracy.csv; and selection.json and similarity.csv, if checkpoints are to be chosen."""

    name: ClassVar[str] = "select"
    title: ClassVar[str] = "accuracy of every checkpoint"
    together: ClassVar[bool] = True

    def inputs(self, experiment: Experiment) -> Any:
        """Checkpoints and tasks; for a choice also site and text."""
        recipe = experiment.recipe
        found = {
            "suite": experiment.suite.fingerprint,
            "sentences": recipe.select.sentences,
            **experiment.task_inputs(),
        }
        if recipe.compare.revisions is None:
            found |= {"select": asdict(recipe.select), "site": recipe.compare.site, "text": experiment.corpus_inputs()}
        return found

    def files(self, experiment: Experiment) -> list[str]:
        """The tables."""
        chosen = experiment.recipe.compare.revisions is None
        return ["accuracy.csv", *(["similarity.csv", SELECTION] if chosen else [])]

    def work(self, experiment: Experiment, pieces: Pieces) -> None:
        """See `crosstime.accuracy`, `crosstime.similarity` and `crosstime.select`; one piece a checkpoint."""
        recipe, suite = experiment.recipe, experiment.suite

        def table(index: int) -> pd.DataFrame:
            return pieces.table(f"{index}.csv", lambda: self._accuracy(experiment, suite.revisions[index]))

        for index in own(range(len(suite)), experiment.processes):
            table(index)
        wait(experiment.processes)
        if not experiment.processes.first:
            return
        measured = pd.concat([table(index) for index in range(len(suite))], ignore_index=True)
        measured = measured.astype({"step": "Int64", "tokens": "Int64"})
        experiment.write("accuracy", measured)
        if recipe.compare.revisions is None:
            settings = recipe.select
            alike = similarity(
                suite,
                experiment.site,
                experiment.corpus(held_out=True),
                TextSample(settings.sequences, recipe.corpus.sequence_length),
                compute=experiment.compute,
            )
            write_table(experiment.folder / "similarity.csv", alike)
            choice = select(settings.k, measured, alike, weight=settings.weight, measure=settings.measure)
            write_json(experiment.folder / SELECTION, {"revisions": choice.revisions, "total": choice.total})

    def _accuracy(self, experiment: Experiment, revision: str) -> pd.DataFrame:
        recipe = experiment.recipe
        return accuracy(
            experiment.suite.select([revision]),
            experiment.tokenized,
            sentences=recipe.select.sentences,
            bootstrap=Bootstrap(recipe.effects.resamples, recipe.seed),
            compute=experiment.compute,
        )
