"""Draw the report of a finished run again, without a model."""

from __future__ import annotations

from pathlib import Path

from crosstime.errors import RunError
from crosstime.features.annotation import read_annotations
from crosstime.machine.checksum import checksum_of
from crosstime.machine.lock import exclusive
from crosstime.report.page.write_report import write_report
from crosstime.runs.folder import RunFolder
from crosstime.runs.ledger import Ledger
from crosstime.runs.manifest import LOCK
from crosstime.runs.report_input import report_input, shown_features
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
