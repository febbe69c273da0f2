"""Run a recipe: every stage of an experiment, from checkpoints to a report, in one folder."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.machine.processes import join_processes
from crosstime.machine.resource_errors import explain_resource_errors
from crosstime.runs.experiment import Experiment
from crosstime.runs.ledger import PARTIAL
from crosstime.runs.lock import only_run
from crosstime.runs.provenance import peak_gpu_memory, peak_memory, source_commit, versions
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.sharding import agree, wait
from crosstime.runs.stages.registry import check_names, stages_of
from crosstime.runs.stages.stage import Stage
from crosstime.shown import Shown
from crosstime.suites.suite import Suite


@dataclass(frozen=True, eq=False, repr=False)
class RunResult(Shown):
    """What a run found, and where it lies.

    Attributes:
        folder: of the run; ``manifest.json`` in it says what was done with what.
        report: the HTML file.
        suite, crosscoder: opened from the folder.
        accuracy, evaluation, effects, ablation: the tables.
        summary: what was found, in a few lines.
    """

    folder: Path
    report: Path
    suite: Suite
    crosscoder: CrossCoder
    accuracy: pd.DataFrame
    evaluation: pd.DataFrame
    effects: pd.DataFrame
    ablation: pd.DataFrame
    summary: str

    def headline(self) -> str:
        """The finding, and where the report is."""
        return f"{' '.join(self.summary.splitlines())} The report: {self.report}"

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables that the report is made of."""
        strongest = self.effects.assign(size=self.effects.ie.abs()).sort_values("size", ascending=False, kind="stable")
        compared = self.accuracy[self.accuracy.revision.isin(self.crosscoder.origin.revisions)]
        return {
            "accuracy at the compared checkpoints": compared,
            "the crosscoder": self.evaluation,
            "the largest effects": strongest.drop(columns="size"),
            "ablations": self.ablation,
        }


def run(
    recipe: Recipe | str | Path,
    folder: str | Path = "runs",
    *,
    force: Sequence[str] = (),
    announce: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """Do everything that a recipe says, and write results and report under ``folder/<name>/``.

    Stages that are done already, from the same inputs, are not done again, and a stage that was stopped goes on
    from where it was. Results are safetensors, CSV and JSON files; see ``docs/results.md``.

    Args:
        recipe: a `Recipe`, the path of a recipe file, or the name of a shipped one.
        folder: where run folders are.
        force: stages to do again though they are done, with all that depends on them; see `crosstime.runs.stages`.
        announce: called with a line for each stage.

    Raises:
        RecipeError, SuiteError, TaskError, CrosscoderError, RunError: one clear sentence each.

    Examples:
        >>> result = run("demo")  # doctest: +SKIP
        >>> result.report  # doctest: +SKIP
        PosixPath('runs/demo/report.html')
    """
    if not isinstance(recipe, Recipe):
        is_file = isinstance(recipe, Path) or recipe.endswith(".toml")
        recipe = Recipe.load(recipe) if is_file else Recipe.named(recipe)
    check_names(tuple(force))
    with explain_resource_errors("starting"):
        processes = join_processes(recipe.compute.torch_device)
        experiment = Experiment(recipe, Path(folder) / recipe.name, processes=processes)
        with only_run(experiment.folder) if processes.first else nullcontext(), _old_objects_left_alone():
            _do_all(experiment, force, announce)
    return RunResult(
        experiment.folder, experiment.folder / "report.html", experiment.suite, experiment.crosscoder,
        experiment.table("accuracy"), experiment.table("evaluation"), experiment.table("effects"),
        experiment.table("ablation"), "\n".join(experiment.table("summary").text),
    )  # fmt: skip


def _do_all(experiment: Experiment, force: Sequence[str], announce: Callable[[str], None]) -> None:
    recipe, ledger, first = experiment.recipe, experiment.ledger, experiment.processes.first
    if first:
        ledger.sweep()
        seeds = {"recipe": recipe.seed, "crosscoder": recipe.crosscoder.seed, "suite": recipe.suite.tiny.seed}
        ledger.note(recipe=recipe.to_dict(), versions=versions(), commit=source_commit(), seeds=seeds)
        experiment.check()
        for name in force:
            ledger.force(name)
    for stage in stages_of(recipe):
        with explain_resource_errors(f"stage {stage.name!r}"):
            made = _do(experiment, stage)
            if first:
                announce(f"{'made' if made else 'kept'} {stage.title}")
                if (remote := experiment.compute.remote) is not None:
                    ledger.note(remote={"traffic": str(remote.traffic), "facts": remote.facts})
    if first:
        shutil.rmtree(experiment.folder / PARTIAL, ignore_errors=True)
        ledger.note(peak_memory_bytes=peak_memory(), peak_gpu_memory_bytes=peak_gpu_memory())


def _do(experiment: Experiment, stage: Stage) -> bool:
    """Do a stage unless it is done; what is done is for the first process to say."""
    processes, ledger = experiment.processes, experiment.ledger
    wait(processes)
    if not processes.first:
        ledger.reread()
    inputs, files = stage.inputs(experiment), stage.files(experiment)
    if agree(processes.first and ledger.is_done(stage.name, inputs, files), processes):
        return False
    if processes.first:
        ledger.stage(stage.name, inputs, files, lambda pieces: stage.work(experiment, pieces))
    elif stage.together:
        stage.work(experiment, ledger.pieces(stage.name, inputs))
    wait(processes)
    return True


@contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """Keep the garbage collector from going through all that was imported each time a checkpoint is closed."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
