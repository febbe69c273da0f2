"""Say when features emerge, how long they stay, and how sure that is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from crosstime.evolution.evolve import evolve
from crosstime.runs.experiment import Experiment
from crosstime.runs.parts import Pieces, checksum
from crosstime.runs.stages.stage import Stage

FOLDER = "evolution"
TABLES = (
    "facts", "evolution", "rotation", "rotation_steps", "dimensionality", "life_cycles", "life_cycle_shares", "pairs",
    "specificity",
)  # fmt: skip
TABLES_OF_TEXT = ("scaling", "kinds", "onsets")
TABLE_OF_LANGUAGES = "languages"


class Evolve(Stage):
    """Writes evolution/, a folder of tables; see docs/features.md."""

    name: ClassVar[str] = "evolve"
    title: ClassVar[str] = "features over time"

    def inputs(self, experiment: Experiment) -> Any:
        """The effects, and what is said of them."""
        settings = experiment.recipe.evolve
        texts = {path: checksum(Path(path)) for path in settings.languages.values() if Path(path).is_file()}
        return [experiment.ledger.key("attribute"), asdict(settings), texts]

    def files(self, experiment: Experiment) -> list[str]:
        """The tables."""
        return [f"{FOLDER}/{name}.csv" for name in _names(experiment)]

    def work(self, experiment: Experiment, pieces: Pieces) -> None:
        """See `crosstime.evolve`."""
        recipe, settings = experiment.recipe, experiment.recipe.evolve
        tables = evolve(
            experiment.crosscoder, [experiment.attribution(index) for index in range(len(experiment.tasks))],
            top=recipe.effects.top, suite=experiment.compared if settings.text or settings.languages else None,
            corpus=experiment.corpus(held_out=True) if settings.text else None,
            languages=settings.languages or None, n_sequences=settings.sequences,
            sequence_length=recipe.corpus.sequence_length, resamples=settings.resamples, seed=recipe.seed,
            compute=experiment.compute,
        )  # fmt: skip
        for name in _names(experiment):
            experiment.write(f"{FOLDER}/{name}", tables[name])


def _names(experiment: Experiment) -> list[str]:
    """The tables that a recipe asks for."""
    settings = experiment.recipe.evolve
    languages = (TABLE_OF_LANGUAGES,) if settings.languages else ()
    return [*TABLES, *(TABLES_OF_TEXT if settings.text else ()), *languages]
