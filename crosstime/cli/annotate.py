"""``crosstime annotate RUN``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosstime.cli.report import RunOrNone


def annotate(
    run: RunOrNone = None,
    tables: Annotated[
        list[Path] | None,
        typer.Option(
            "--tables",
            help="Without a run: a folder that crosstime attribute or evolve wrote; may be repeated.",
        ),
    ] = None,
    read: Annotated[
        list[Path] | None,
        typer.Option("--read", help="A sheet to check; given twice, the agreement of two annotators is printed."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the sheet; by default RUN/annotations, or annotations."),
    ] = None,
) -> None:
    """Write a sheet in which people describe the features of a run, or check sheets that were filled in.

    The sheet is annotations.csv, next to a page with the texts on which each feature fires. With --read, every row of a
    sheet is checked; two sheets are compared by Cohen's kappa. crosstime report --annotations shows them in the report.
    Without a run, --tables names the folders of crosstime attribute, which has the prompts on which features fire, and
    of crosstime evolve, which has facts about them.
    """
    from crosstime.cli.options import refuse_file_as_folder
    from crosstime.errors import AnnotationError, errors_at
    from crosstime.runs.manifest import read_manifest

    # Read the options
    sheets = read or []
    if (run is None) == (not tables):
        raise AnnotationError("RUN is the folder of a run, or --tables names folders in its place: give one of them")
    if len(sheets) > 2:
        raise AnnotationError(f"--read takes one sheet or two, not {len(sheets)}")
    if sheets and output is not None:
        raise AnnotationError(f"--output is for a new sheet, and --read writes none: leave out {output}")
    if output is not None:
        refuse_file_as_folder(output, "--output")
    if run is not None:
        with errors_at("RUN"):
            read_manifest(run)  # A folder without a run is refused before anything slow is loaded

    from crosstime.features.annotation import annotator_agreement, export_annotation_sheet, read_annotations
    from crosstime.runs.annotated_features import features_of_run, features_of_tables

    with errors_at("--tables" if run is None else "RUN"):
        described = features_of_run(run) if run is not None else features_of_tables(tables or [])
    if not sheets:
        folder = Path("annotations") if run is None else run / "annotations"
        paths = export_annotation_sheet(folder if output is None else output, described.contexts, described.facts)
        print(f"wrote {', '.join(map(str, paths))}")
        return

    features = list(described.contexts)
    with errors_at("--read"):
        read_tables = [read_annotations(sheet, features) for sheet in sheets]
    for sheet, table in zip(sheets, read_tables, strict=True):
        print(f"{sheet}: {len(table)} of {len(features)} features are annotated")
    if len(read_tables) == 2:
        print(annotator_agreement(*read_tables).round(3).to_string(index=False))
