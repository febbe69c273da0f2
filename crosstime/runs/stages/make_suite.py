"""Train the suite of checkpoints, where the recipe has a tiny one."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import Any, ClassVar

from crosstime.runs.experiment import SUITE, Experiment
from crosstime.runs.parts import Pieces
from crosstime.runs.recipe.recipe import TINY, Recipe
from crosstime.runs.stages.stage import Stage
from crosstime.suites.corpus import documents
from crosstime.suites.train_tiny_suite import train_tiny_suite

_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


class MakeSuite(Stage):
    """Trains ``suite/``, a folder of checkpoints."""

    name: ClassVar[str] = "suite"
    title: ClassVar[str] = "a tiny suite of checkpoints"

    def wanted(self, recipe: Recipe) -> bool:
        """Only with ``source = "tiny"``."""
        return recipe.suite.source == TINY

    def inputs(self, experiment: Experiment) -> Any:
        """The suite's settings and its text."""
        tiny, seed = asdict(experiment.recipe.suite.tiny), experiment.recipe.seed
        return {"tiny": tiny, "corpus": experiment.corpus_inputs(), "seed": seed}

    def files(self, experiment: Experiment) -> list[str]:
        """The checkpoints and their index."""
        steps = experiment.recipe.suite.tiny.checkpoints
        return [f"{SUITE}/step{step}/{file}" for step in steps for file in _FILES] + [f"{SUITE}/suite.json"]

    def work(self, experiment: Experiment, pieces: Pieces) -> None:
        """See `crosstime.train_tiny_suite`."""
        folder = experiment.folder / SUITE
        shutil.rmtree(folder, ignore_errors=True)
        lines, _ = documents(experiment.corpus())
        train_tiny_suite(folder, lines, experiment.recipe.suite.tiny)
