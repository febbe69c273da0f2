"""``crosstime status RUN``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def status(folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/demo.")]) -> None:
    """Say where a run stands: which stages are done, which were stopped, and which files are damaged.

    Exit code 0 where everything is done, 1 where something is left to do.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from crosstime.runs.status import status as status_of

    found = status_of(folder)
    styles = {"done": "green", "damaged": "red", "partial": "yellow", "waiting": "dim"}
    table = Table.grid(padding=(0, 2))
    for stage in found.stages:
        table.add_row(Text(stage.name), Text(stage.state, style=styles[stage.state]), Text(stage.note, style="dim"))
    console = Console()
    console.print(table)
    console.print(f"running: {found.holder}" if found.holder else "nobody is running it", markup=False, highlight=False)
    if not found.finished:
        raise typer.Exit(1)
