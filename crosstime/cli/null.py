"""``crosstime null RUN``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def null(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder, such as runs/demo.")],
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            "-k",
            help="A null model: same-checkpoint, same-checkpoint-noise, permuted-tokens, random-weights, "
            "frozen-encoder or frozen-decoder; may be repeated. Default: same-checkpoint-noise and permuted-tokens.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each null model.")] = 1,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", help="The checkpoint that same-checkpoint repeats; default: the last compared."),
    ] = None,
) -> None:
    """Repeat a run where there is nothing to find, and show how many of its claims come out all the same.

    Trains a crosscoder under each null model with the sizes and seeds of the run, and computes effects, life cycles
    and dips with it. Writes RUN/nulls.csv, and the report again, with the expected number beside every count.
    """
    from rich.console import Console

    from crosstime.cli.option_errors import errors_about
    from crosstime.cli.output import print_line
    from crosstime.cli.tables import null_table
    from crosstime.evolution.null_names import DEFAULT_KINDS
    from crosstime.runs.null_models import null_models

    progress = Console(stderr=True)
    places = {"kinds": "--kind", "null model": "--kind", "checkpoint": "--checkpoint"}
    with errors_about(places, "RUN", head=r"(?:null\.)?(?:kinds|checkpoint): "):
        table = null_models(
            folder,
            kinds or DEFAULT_KINDS,
            seeds=seeds,
            checkpoint=checkpoint,
            announce=lambda line: progress.print(f"[green]•[/] {line}", highlight=False),
        )
    console = Console()
    for _, rows in table.groupby("null", sort=False):
        console.print(null_table(rows))
    print_line(console, f"The table: {folder / 'nulls.csv'}")
