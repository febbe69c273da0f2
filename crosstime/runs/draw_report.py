"""Draw the report of a finished run again, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crosstime.crosscoders.open_crosscoder import as_crosscoder
from crosstime.errors import CrosscoderError, RunError
from crosstime.features.annotation import read_annotations
from crosstime.machine.checksum import checksum_of
from crosstime.machine.lock import exclusive
from crosstime.report.page.write_report import write_report
from crosstime.runs.folder import RunFolder
from crosstime.runs.ledger import Ledger
from crosstime.runs.manifest import LOCK
from crosstime.runs.report_input import report_input, shown_features
from crosstime.runs.report_input_of_files import Tables, listed_features, report_input_of_files
from crosstime.runs.status import status


def draw_report(run: str | Path, *, annotations: str | Path | None = None, output: str | Path | None = None) -> Path:
    """Draw the report of a finished run from the files in its folder; no model and no text is opened.

    Args:
        run: the folder of the run.
        annotations: a sheet of descriptions of features to show on their cards, see
            `crosstime.features.annotation.read_annotations`.
        output: folder of ``report.html``, ``charts/`` and ``tables/``; None replaces those of the run, whose
            manifest then records the new page.

    Returns:
        The path of ``report.html``.

    Raises:
        RunError: the run is not finished, a file of it is damaged, or another process is running it.
        AnnotationError: the sheet is not valid for the features of the run.

    Examples:
        >>> draw_report("runs/demo", annotations="annotations.csv", output="annotated")  # doctest: +SKIP
    """
    folder = Path(run)
    require_finished(folder)
    notes = None
    if annotations is not None:
        notes = read_annotations(annotations, shown_features(folder))
    report = report_input(folder, notes)
    if output is not None and Path(output).resolve() != folder.resolve():
        return write_report(report, Path(output))

    with exclusive(folder / LOCK, work="a run", instead="draw it elsewhere with --output"):
        page = write_report(report, folder)
        ledger = Ledger(folder)
        ledger.manifest["stages"]["report"]["files"][RunFolder.REPORT] = checksum_of(page)
        ledger.note()
    return page


def draw_report_of_files(
    crosscoder: str | Path,
    tables: Sequence[str | Path],
    output: str | Path,
    *,
    title: str | None = None,
    annotations: str | Path | None = None,
) -> Path:
    """Draw a report of a crosscoder and of tables that single commands wrote; no model and no text is opened.

    Args:
        crosscoder: its path.
        tables: folders of tables, such as those of ``crosstime attribute``, ``ablate`` and ``evolve``.
        output: folder of ``report.html``, ``charts/`` and ``tables/``.
        title: heading of the page; default: the suite and the site of the crosscoder.
        annotations: a sheet of descriptions of the features that the tables list.

    Returns:
        The path of ``report.html``.

    Raises:
        CrosscoderError: the crosscoder cannot be read, or is one of rows of parameters.
        RunError: a folder has no tables, or they are damaged or of another crosscoder.
        AnnotationError: the sheet is not valid for the features of the tables.

    Examples:
        >>> draw_report_of_files("crosscoder.safetensors", ["effects", "ablation"], "report")  # doctest: +SKIP
    """
    read = Tables([Path(folder) for folder in tables])
    notes = None if annotations is None else read_annotations(annotations, listed_features(read))
    opened = as_crosscoder(crosscoder)
    if opened.origin.rows is not None:
        raise CrosscoderError(
            f"{crosscoder} was trained on rows of {opened.origin.rows}: a recipe with [rows] and crosscoder.source "
            "makes its report"
        )
    name = f"{opened.origin.suite}, {opened.origin.site}" if title is None else title
    return write_report(report_input_of_files(opened, read, title=name, annotations=notes), Path(output))


def require_finished(folder: Path) -> None:
    """Refuse a folder whose tables do not all come from one recipe; the page itself may be missing or changed.

    Raises:
        RunError: a stage of the run is not done, or the folder holds no run.
    """
    for stage in status(folder).stages:
        if stage.state != "done" and (stage.name, stage.state) != ("report", "damaged"):
            raise RunError(
                f"{folder} is not a finished run: its stage {stage.name!r} is {stage.state}; crosstime run RECIPE "
                "finishes it"
            )
