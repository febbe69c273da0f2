"""Train the crosscoder."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from crosstime.runs.experiment import CROSSCODER, Experiment
from crosstime.runs.parts import Pieces
from crosstime.runs.stages.stage import Stage
from crosstime.training.train import train


class Train(Stage):
    """Writes crosscoder.safetensors and training.csv."""

    name: ClassVar[str] = "train"
    title: ClassVar[str] = "the crosscoder"
    together: ClassVar[bool] = True

    def inputs(self, experiment: Experiment) -> Any:
        """Checkpoints, site, text, and all hyper-parameters; not how often it is saved, nor who is told."""
        recipe, settings = experiment.recipe, experiment.recipe.crosscoder
        results = {key: value for key, value in asdict(settings).items() if key not in ("save_every", "loggers")}
        return {
            "suite": experiment.compared.fingerprint, "site": recipe.compare.site,
            "crosscoder": {"kind": settings.kind, **results},
            "corpus": experiment.corpus_inputs(), "seed": recipe.seed, "dtype": experiment.compute.precision,
        }  # fmt: skip

    def files(self, experiment: Experiment) -> list[str]:
        """Weights and log."""
        return [CROSSCODER, "training.csv"]

    def work(self, experiment: Experiment, pieces: Pieces) -> None:
        """See `crosstime.train`; it keeps its state among the pieces, and goes on from it."""
        recipe, settings = experiment.recipe, experiment.recipe.crosscoder
        trained = train(
            experiment.compared,
            experiment.site,
            experiment.store or experiment.corpus(),
            settings.config(),
            data=settings.data_config(sequence_length=recipe.corpus.sequence_length, seed=recipe.seed),
            precision=settings.precision,
            checkpointing=settings.checkpointing(pieces.path("state.safetensors")),
            logging=settings.logging(experiment.folder),
            compute=experiment.compute,
        )
        if experiment.processes.first:
            experiment.write("training", trained.log)
            trained.crosscoder.save(experiment.folder / CROSSCODER)
