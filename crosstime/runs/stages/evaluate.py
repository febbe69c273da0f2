"""Measure how good the crosscoder is."""

from __future__ import annotations

from typing import Any, ClassVar

from crosstime.crosscoders.evaluate import evaluate
from crosstime.runs.experiment import Experiment
from crosstime.runs.parts import Pieces
from crosstime.runs.stages.stage import Stage
from crosstime.suites.corpus import TextSample

MOST_SEQUENCES, MOST_NUMBERS = 256, 1 << 29
"""Sequences that are read, and numbers in their activations at all checkpoints, of which several copies are held."""


class Evaluate(Stage):
    """Writes evaluation.csv."""

    name: ClassVar[str] = "evaluate"
    title: ClassVar[str] = "how good it is"

    def inputs(self, experiment: Experiment) -> Any:
        """The crosscoder."""
        return experiment.ledger.key("train")

    def files(self, experiment: Experiment) -> list[str]:
        """The table."""
        return ["evaluation.csv"]

    def work(self, experiment: Experiment, pieces: Pieces) -> None:
        """See `crosstime.evaluate`; on text that it was not trained on, where the recipe has any."""
        length, suite = experiment.recipe.corpus.sequence_length, experiment.compared
        table = evaluate(
            suite, experiment.crosscoder, experiment.corpus(held_out=True),
            sample=TextSample(evaluated(length, len(suite), suite.d_model), length), compute=experiment.compute,
        )  # fmt: skip
        experiment.write("evaluation", table)


def evaluated(length: int, n_checkpoints: int, d_model: int) -> int:
    """How many sequences the crosscoder is measured on: fewer, where their activations would fill the memory.

    Examples:
        >>> evaluated(64, 3, 128), evaluated(1024, 3, 2048), evaluated(2048, 32, 768)
        (256, 85, 10)
    """
    return max(1, min(MOST_SEQUENCES, MOST_NUMBERS // max(1, length * n_checkpoints * d_model)))
