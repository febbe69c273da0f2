"""``crosstime status RUN``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_STYLES = {"done": "green", "stale": "yellow", "damaged": "red", "partial": "yellow", "waiting": "dim"}


def status(folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/demo.")]) -> None:
    """Show the state of a run: which stages are done, which were stopped, and which files are damaged.

    A stage is stale if it was made by another recipe than the one that was run last, and that run was stopped before it
    came to the stage. Exit code 0 if every stage is done by the last recipe, 1 if something is left to do.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from crosstime.runs.status import status as read_status

    run = read_status(folder)
    table = Table.grid(padding=(0, 2))
    for stage in run.stages:
        table.add_row(Text(stage.name), Text(stage.state, style=_STYLES[stage.state]), Text(stage.note, style="dim"))
    console = Console()
    console.print(table)
    console.print(f"running: {run.holder}" if run.holder else "nobody is running it", markup=False, highlight=False)
    if not run.finished:
        raise typer.Exit(1)
