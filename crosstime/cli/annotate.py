"""``crosstime annotate RUN``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def annotate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, such as runs/demo.")],
    read: Annotated[
        list[Path] | None,
        typer.Option("--read", help="A sheet to check; given twice, the agreement of two annotators is printed."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the sheet; by default RUN/annotations.")
    ] = None,
) -> None:
    """Write a sheet in which people describe the features of a run, or check sheets that were filled in.

    The sheet is annotations.csv, next to a page with the texts on which each feature fires. With --read, every row of a
    sheet is checked; two sheets are compared by Cohen's kappa. crosstime report --annotations shows them in the report.
    """
    sheets = read or []
    if len(sheets) > 2:
        raise typer.BadParameter(f"takes one sheet or two, not {len(sheets)}", param_hint="--read")
    if sheets and output is not None:
        raise typer.BadParameter("is for a new sheet, and --read writes none", param_hint="--output")

    from crosstime.runs.manifest import read_manifest

    read_manifest(run)  # A folder without a run is refused before anything slow is loaded

    from crosstime.features.annotation import annotator_agreement, export_annotation_sheet, read_annotations
    from crosstime.runs.draw_report import require_finished
    from crosstime.runs.report_input import report_input, shown_features

    require_finished(run)
    if not sheets:
        shown = report_input(run)
        paths = export_annotation_sheet(run / "annotations" if output is None else output, shown.contexts, shown.facts)
        print(f"wrote {', '.join(map(str, paths))}")
        return

    features = shown_features(run)
    tables = [read_annotations(sheet, features) for sheet in sheets]
    for sheet, table in zip(sheets, tables, strict=True):
        print(f"{sheet}: {len(table)} of {len(features)} features are annotated")
    if len(tables) == 2:
        print(annotator_agreement(*tables).round(3).to_string(index=False))
