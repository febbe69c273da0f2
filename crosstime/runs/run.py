"""Run a recipe: every stage of an experiment, from checkpoints to a report, in one folder."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.display import Display
from crosstime.features.top_rows import COLUMNS as TOP_COLUMNS
from crosstime.machine.lock import exclusive
from crosstime.machine.mesh import refuse_uneven
from crosstime.machine.processes import join_processes
from crosstime.machine.resource_errors import explain_resource_errors
from crosstime.report.columns import COLUMNS
from crosstime.runs.check import check
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.manifest import LOCK, PARTIAL
from crosstime.runs.provenance import peak_gpu_memory, peak_memory, source_commit, versions
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.recipe.suite import TINY
from crosstime.runs.run_stage import run_stage
from crosstime.runs.stages.evolve_rows import TOP_ROWS
from crosstime.runs.stages.names import refuse_unknown
from crosstime.runs.stages.registry import stages_of
from crosstime.suites.suite import Suite
from crosstime.suites.weight_table import weight_table
from user_input.home import expanded


@dataclass(frozen=True, eq=False, repr=False)
class RunResult(Display):
    """The results of a run, opened from its folder.

    Attributes:
        folder: the run's folder; ``manifest.json`` in it records what was done with which inputs.
        report: the report, an HTML file.
        suite: all checkpoints.
        crosscoder: the crosscoder of the compared ones.
        accuracy, evaluation, effects, ablation: tables; see ``docs/results.md``. A run on rows of parameters has only
            the second of them, and the others have no rows.
        rows: the rows of parameters on which each feature fires most strongly; empty for activations.
        summary: the findings in a few sentences.
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
    rows: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=list(TOP_COLUMNS)))

    def headline(self) -> str:
        """The findings, and where the report is."""
        return f"{' '.join(self.summary.splitlines())} The report: {self.report}"

    def tables(self) -> dict[str, pd.DataFrame]:
        """The main tables by their titles."""
        if not self.rows.empty:
            return {"the crosscoder": self.evaluation, "the strongest rows of each feature": self.rows}
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
    """Run every stage of a recipe, and write results and report to ``folder/<name>/``.

    Stages that are done already, from the same inputs, are kept, and a stage that was stopped resumes from its finished
    parts. Results are safetensors, CSV and JSON files; see ``docs/results.md``.

    Args:
        recipe: a `Recipe`, the path of a recipe file, or the name of a shipped one.
        folder: folder in which the run's own folder is made.
        force: stages to repeat although they are done, with all that depend on them; see `crosstime.runs.stages`.
        announce: called with a line after each stage.

    Returns:
        The tables, the crosscoder and the findings, opened from the folder of the run.

    Raises:
        RecipeError: the recipe does not exist, or a value in it is not allowed; before any model runs.
        SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.
        TaskError: a task cannot be read, or no pair of it is left.
        CrosscoderError: the crosscoder cannot be trained or opened.
        RunError: another process works in the folder, or a file in it cannot be written or is damaged.

    Examples:
        >>> result = run("demo")  # doctest: +SKIP
        >>> result.report  # doctest: +SKIP
        PosixPath('runs/demo/report.html')
    """
    opened = _open_recipe(recipe)
    refuse_unknown(force)
    with explain_resource_errors("starting"):
        run_folder = RunFolder(expanded(folder) / opened.name)
        inputs = Inputs(opened, run_folder)
        # Refuse what cannot work, before anything is written
        check(inputs)

        # One run at a time works in the folder, with all of its processes
        ledger = Ledger(run_folder.path, join_processes(opened.compute.torch_device))
        refuse_uneven(ledger.processes, opened.compute.feature_shards)
        lock = exclusive(run_folder.path / LOCK, work="a run", instead="choose another folder with --runs")
        with lock if ledger.processes.first else nullcontext(), _imports_out_of_garbage_collection():
            _run_stages(inputs, run_folder, ledger, force, announce)
    return RunResult(
        folder=run_folder.path,
        report=run_folder.path / run_folder.REPORT,
        suite=inputs.suite,
        crosscoder=run_folder.crosscoder,
        evaluation=run_folder.table("evaluation"),
        summary="\n".join(run_folder.table("summary").text),
        **_tables(run_folder, opened),
    )


def _tables(folder: RunFolder, recipe: Recipe) -> dict[str, pd.DataFrame]:
    """The tables that a run has with tasks, or on rows of parameters; those of the other kind are empty."""
    of_tasks = ("accuracy", "effects", "ablation")
    if recipe.rows.matrices:
        empty = {name: pd.DataFrame(columns=list(COLUMNS[name])) for name in of_tasks}
        return {**empty, "rows": folder.table(TOP_ROWS)}
    return {name: folder.table(name) for name in of_tasks}


def _open_recipe(recipe: Recipe | str | Path) -> Recipe:
    """A recipe from a file or by name, unless it is one already."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Path) or recipe.endswith(".toml"):
        return Recipe.load(recipe)
    return Recipe.named(recipe)


def _run_stages(
    inputs: Inputs, folder: RunFolder, ledger: Ledger, force: Sequence[str], announce: Callable[[str], None]
) -> None:
    """Run the stages one after another; the first process records and announces them."""
    recipe, first = inputs.recipe, ledger.processes.first

    # Record what the run starts from
    if first:
        ledger.sweep()
        seeds = {"recipe": recipe.seed, "crosscoder": recipe.crosscoder.seed, "suite": recipe.suite.tiny.seed}
        ledger.start(recipe.to_dict(), versions=versions(), commit=source_commit(), seeds=seeds)
        if recipe.suite.source != TINY:
            ledger.note(weights=weight_table(inputs.suite).to_dict("records"))
        for name in force:
            ledger.force(name)

    # Run each stage
    for stage in stages_of(recipe):
        with explain_resource_errors(f"stage {stage.name!r}"):
            done_now = run_stage(stage, inputs, folder, ledger)
            if first:
                announce(f"{'made' if done_now else 'kept'} {stage.title_of(recipe)}")
                if (remote := inputs.compute.remote) is not None:
                    ledger.note(remote={"traffic": str(remote.traffic), "facts": remote.facts})

    # Clean up
    if first:
        shutil.rmtree(folder.path / PARTIAL, ignore_errors=True)
        ledger.note(peak_memory_bytes=peak_memory(), peak_gpu_memory_bytes=peak_gpu_memory())


@contextmanager
def _imports_out_of_garbage_collection() -> Iterator[None]:
    """Keep the garbage collector from traversing all imported modules each time a checkpoint is closed."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
