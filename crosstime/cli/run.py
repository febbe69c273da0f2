"""``crosstime run RECIPE``"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from user_input.home import expanded

if TYPE_CHECKING:
    from rich.console import Console

    from crosstime.runs.recipe.recipe import Recipe
    from crosstime.runs.run import RunResult

RunsFolder = Annotated[Path, typer.Option("--runs", help="Folder in which the run's own folder is made.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change one key of the recipe, for instance --set crosscoder.steps=200; may be repeated."
    ),
]
EstimatorName = Annotated[
    str | None,
    typer.Option(
        "--estimator",
        help="Estimate effects as default, ctt-as-written or ctt-as-released: short for --set effects.estimator=NAME.",
    ),
]
Forced = Annotated[
    list[str] | None,
    typer.Option("--force", help="Repeat a stage, and all that depend on it; may be repeated."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what it would cost, and whether this machine can hold it.")
]
ProcessCount = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="With --dry-run: how many processes of torchrun train together."),
]
INTERRUPTED = 130


def run(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe file (.toml), or the name of a shipped recipe.")
    ],
    runs: RunsFolder = Path("runs"),
    overrides: Overrides = None,
    force: Forced = None,
    dry_run: DryRun = False,
    estimator: EstimatorName = None,
    processes: ProcessCount = None,
) -> None:
    """Run a recipe: train a crosscoder, attribute tasks to its features, ablate them, and write a report.

    Results go to RUNS/NAME, where NAME is the recipe's. Stages (suite, select, ngrams, train, evaluate, attribute,
    ablate, evolve, explain, replicate, stability, baselines, null, report) that are done already are kept, and a stage
    that was stopped resumes.
    """
    execute(
        open_recipe(recipe, overrides or [], estimator),
        runs,
        force=force or [],
        dry_run=dry_run,
        processes=processes,
    )


def open_recipe(name: str, overrides: list[str], estimator: str | None = None) -> Recipe:
    """The recipe of a file, or a shipped one, with the changes of ``--set`` and ``--estimator``.

    Raises:
        RecipeError: there is no such recipe, or it has a mistake; a change that makes one is named by its option.
    """
    from crosstime.errors import RecipeError, errors_at
    from crosstime.runs.recipe.recipe import Recipe
    from crosstime.runs.recipe.shipped_recipes import shipped_recipes

    is_file = name.endswith(".toml") or expanded(name).is_file()
    read = Recipe.load if is_file else Recipe.named
    method = [] if estimator is None else [f"effects.estimator={estimator}"]
    if not (expanded(name).is_file() if is_file else name in shipped_recipes()):
        with errors_at("RECIPE"):
            read(name)
    try:
        return read(name, [*overrides, *method])
    except RecipeError:
        # The recipe itself is wrong, or the last of the changes without which it is right
        if _has_mistake(read, name, []):
            raise
        with errors_at("--set" if _has_mistake(read, name, overrides) else "--estimator"):
            raise


def _has_mistake(read: Callable[[str, list[str]], Recipe], name: str, overrides: list[str]) -> bool:
    """Whether a recipe with these changes cannot be used."""
    from crosstime.errors import RecipeError

    try:
        read(name, overrides)
    except RecipeError:
        return True
    return False


def execute(recipe: Recipe, runs: Path, *, force: list[str], dry_run: bool, processes: int | None = None) -> None:
    """Run a recipe with progress on standard error and its results on standard output."""
    from rich.console import Console
    from rich.text import Text

    from crosstime.cli.options import refuse_file_as_folder
    from crosstime.errors import RunError, errors_at
    from crosstime.runs.stages.names import refuse_unknown

    with errors_at("--force"):
        refuse_unknown(force)
    refuse_file_as_folder(runs, "--runs")
    if dry_run:
        print_plan(recipe, runs, Console(), processes)
        return
    if processes is not None:
        raise RunError("--processes is for --dry-run: torchrun --nproc-per-node N starts a run in N processes")
    from crosstime.runs.run import run as run_recipe

    started = time.perf_counter()
    progress = Console(stderr=True)
    try:
        result = run_recipe(
            recipe,
            runs,
            force=force,
            announce=lambda line: progress.print(Text.assemble(("•", "green"), " ", line), highlight=False),
        )
    except KeyboardInterrupt:
        folder = runs / recipe.name
        print(
            f"crosstime: stopped; finished work is kept in {folder}, and the same command resumes from there",
            file=sys.stderr,
        )
        raise typer.Exit(INTERRUPTED) from None
    print_result(result, Console(), time.perf_counter() - started)


def print_result(result: RunResult, console: Console, seconds: float) -> None:
    """Print the table of accuracy, the findings, and where the report is."""
    from crosstime.cli.output import print_line
    from crosstime.cli.tables import accuracy_table

    origin = result.crosscoder.origin
    if origin.rows is None:
        console.print(accuracy_table(result.accuracy, origin.revisions, ordered=origin.ordered))
    console.print(result.summary, highlight=False, markup=False)
    print_line(console, f"\n{seconds:.0f} s. The report: {result.report}")


def print_plan(recipe: Recipe, runs: Path, console: Console, processes: int | None = None) -> None:
    """Print what a recipe would cost on this machine; exit code 1 if the machine cannot hold it."""
    from rich.table import Table

    from crosstime.cli.output import print_line
    from crosstime.machine.memory import in_bytes
    from crosstime.runs.plan.machine import Machine
    from crosstime.runs.plan.plan import in_time, plan

    # Measure the machine, and compute the costs
    machine = Machine.here(recipe.compute.torch_device, runs)
    estimate = plan(recipe, machine, processes)
    rates = f"{machine.flops / 1e9:,.0f} GFLOP/s, {machine.bandwidth / 1e9:,.0f} GB/s"
    console.print(f"{recipe.name} on {machine.device} ({machine.name}, {rates})", markup=False, highlight=False)

    # A row for each stage
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("stage", "what"):
        table.add_column(name)
    for name in ("FLOP", "memory", "disk", "time"):
        table.add_column(name, justify="right")
    for cost in estimate.costs:
        seconds = in_time(*estimate.seconds(cost)) if cost.flops else "-"
        table.add_row(cost.stage, cost.what, f"{cost.flops:.2g}", in_bytes(cost.memory), in_bytes(cost.disk), seconds)
    console.print(table)

    for sentence in estimate.training.sentences():
        print_line(console, sentence)

    # The sum, and what the machine lacks
    disk, memory = in_bytes(sum(cost.disk for cost in estimate.costs)), in_bytes(estimate.host_memory)
    console.print(
        f"In all {in_time(*estimate.seconds())} of computing, {disk} of disk, {memory} of main memory. Downloads, "
        "opening checkpoints and drawing the report take time of their own.",
        highlight=False,
    )
    for objection in estimate.objections:
        print_line(console, f"This machine cannot hold it: {objection}.")
    if estimate.objections:
        raise typer.Exit(1)
