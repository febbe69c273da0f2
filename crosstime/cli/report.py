"""``crosstime report RUN``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, such as runs/demo.")],
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="A sheet of annotations to show on the cards of features.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to draw into; by default that of the run.")
    ] = None,
) -> None:
    """Draw the report of a finished run again from the files in its folder, without a model.

    It replaces report.html, charts/ and tables/ of the run, or writes them to another folder.
    """
    from crosstime.runs.manifest import read_manifest

    read_manifest(run)  # A folder without a run is refused before anything slow is loaded

    from crosstime.runs.draw_report import draw_report

    print(draw_report(run, annotations=annotations, output=output))
