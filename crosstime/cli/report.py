"""``crosstime report RUN``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunOrNone = Annotated[
    Path | None, typer.Argument(help="The folder of a finished run, such as runs/demo.", metavar="RUN")
]
CrosscoderFile = Annotated[
    Path | None, typer.Option("--crosscoder", help="Without a run: the file of a crosscoder, of any command.")
]
TableFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--tables",
        help="With --crosscoder: a folder that crosstime attribute, ablate, evolve, accuracy, evaluate or train wrote; "
        "may be repeated.",
    ),
]


def report(
    run: RunOrNone = None,
    crosscoder: CrosscoderFile = None,
    tables: TableFolders = None,
    title: Annotated[str | None, typer.Option("--title", help="With --crosscoder: heading of the page.")] = None,
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="A sheet of annotations to show on the cards of features.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to draw into; by default that of the run, or report."),
    ] = None,
) -> None:
    """Draw the report of a finished run again, or of files that single commands wrote, without a model.

    Of a run, it replaces report.html, charts/ and tables/, or writes them to another folder. With --crosscoder and
    --tables, the page has the sections for which there are tables; decoders are read from the crosscoder.
    """
    from crosstime.cli.option_errors import errors_about
    from crosstime.cli.options import refuse_file_as_folder, refuse_missing_crosscoder
    from crosstime.errors import ReportError, errors_at
    from crosstime.runs.manifest import read_manifest

    # Read the options, without PyTorch
    refuse_file_as_folder(Path("report") if output is None else output, "--output")
    places = {str(path): "--tables" for path in tables or ()}
    if annotations is not None:
        places[str(annotations)] = "--annotations"
    if (run is None) == (crosscoder is None):
        raise ReportError("RUN is the folder of a run, or --crosscoder names a file in its place: give one of them")
    if run is not None:
        for place, value in (("--tables", tables), ("--title", title)):
            if value:
                raise ReportError(f"{place} is for --crosscoder, without a run, and {run} is the folder of a run")
        with errors_at("RUN"):
            read_manifest(run)  # A folder without a run is refused before anything slow is loaded

        from crosstime.runs.draw_report import draw_report

        with errors_about(places):
            print(draw_report(run, annotations=annotations, output=output))
        return
    assert crosscoder is not None
    refuse_missing_crosscoder(crosscoder, "--crosscoder")

    from crosstime.runs.draw_report import draw_report_of_files

    folder = Path("report") if output is None else output
    with errors_about(places):
        print(draw_report_of_files(crosscoder, tables or [], folder, title=title, annotations=annotations))
