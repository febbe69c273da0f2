"""``crosstime run RECIPE``"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from crosstime.runs.recipe.recipe import Recipe
    from crosstime.runs.run import RunResult

RUNS = typer.Option("--runs", help="Folder in which the run's own folder is made.")
OVERRIDES = typer.Option(
    "--set", help="Change one key of the recipe, for instance --set crosscoder.steps=200; may be repeated."
)
FORCE = typer.Option("--force", help="Do a stage again, and all that depend on it; may be repeated.")
DRY_RUN = typer.Option("--dry-run", help="Only say what it would cost, and whether this machine can hold it.")
INTERRUPTED = 130


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file (.toml), or the name of a shipped recipe.")],
    runs: Annotated[Path, RUNS] = Path("runs"),
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    force: Annotated[list[str] | None, FORCE] = None,
    dry_run: Annotated[bool, DRY_RUN] = False,
) -> None:
    """Do what a recipe says: train a crosscoder, attribute tasks to its features, ablate, report.

    Results go to RUNS/NAME, where NAME is the recipe's. Stages (suite, select, train, evaluate, attribute, ablate,
    evolve, explain, report) that are done already are kept, and one that was stopped goes on from where it was.
    """

    from crosstime.runs.recipe.recipe import Recipe

    is_file = recipe.endswith(".toml") or Path(recipe).is_file()
    execute(
        Recipe.load(recipe, overrides or ()) if is_file else Recipe.named(recipe, overrides or ()),
        runs,
        force=force or [],
        dry_run=dry_run,
    )


def execute(recipe: Recipe, runs: Path, *, force: list[str] | None = None, dry_run: bool = False) -> None:
    """Run a recipe with progress on standard error and its results on standard output."""
    from rich.console import Console

    if dry_run:
        show_plan(recipe, runs, Console())
        return
    from crosstime.runs.run import run as run_recipe

    started = time.perf_counter()
    progress = Console(stderr=True)
    try:
        result = run_recipe(
            recipe,
            runs,
            force=force or [],
            announce=lambda line: progress.print(f"[green]•[/] {line}", highlight=False),
        )
    except KeyboardInterrupt:
        place = runs / recipe.name
        print(f"crosstime: stopped; the same command goes on from there, and {place} keeps the rest", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    show(result, Console(), time.perf_counter() - started)


def show(result: RunResult, console: Console, seconds: float) -> None:
    """Print accuracy table, finding, and where everything lies."""
    from crosstime.cli.tables import accuracy_table

    console.print(accuracy_table(result.accuracy, result.crosscoder.origin.revisions))
    console.print(result.summary, highlight=False, markup=False)
    console.print(f"\n{seconds:.0f} s. The report: {result.report}", highlight=False, markup=False, soft_wrap=True)


def show_plan(recipe: Recipe, runs: Path, console: Console) -> None:
    """Print what a recipe would cost on this machine; exit code 1 where it cannot hold it."""
    from rich.table import Table

    from crosstime.runs.plan.machine import Machine
    from crosstime.runs.plan.plan import in_bytes, in_time, plan

    # Measure the machine, and compute the costs
    machine = Machine.here(recipe.compute.torch_device, runs)
    estimate = plan(recipe, machine)
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

    # The sum, and what the machine lacks
    disk, memory = in_bytes(sum(cost.disk for cost in estimate.costs)), in_bytes(estimate.host_memory)
    console.print(
        f"In all {in_time(*estimate.seconds())} of computing, {disk} of disk, {memory} of main memory. Downloads, "
        "opening checkpoints and drawing the report take time of their own.",
        highlight=False,
    )
    for objection in estimate.objections:
        console.print(f"This machine cannot hold it: {objection}.", markup=False, highlight=False, soft_wrap=True)
    if estimate.objections:
        raise typer.Exit(1)
