"""``crosstime select``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosstime.cli.options import SurveyFolder

if TYPE_CHECKING:
    import pandas as pd


def select(
    k: Annotated[int, typer.Option("-k", help="Number of checkpoints.")] = 3,
    keep: Annotated[
        str | None, typer.Option("--keep", help="Checkpoints that must be chosen, separated by commas.")
    ] = None,
    weight: Annotated[float, typer.Option("--weight", help="Weight of accuracy against representation, 0 to 1.")] = 0.5,
    measure: Annotated[str, typer.Option("--measure", help="cosine, pearson or cka.")] = "cosine",
    out: SurveyFolder = Path("survey"),
) -> None:
    """Propose K checkpoints to compare: those between which accuracy and representation change most.

    Reads what accuracy and similarity wrote to OUT, or only one of them if the other is missing; writes selection.json
    and charts to OUT. To overrule the proposal, name checkpoints with --keep.
    """
    from rich.console import Console

    from crosstime.cli.accuracy import accuracy_charts
    from crosstime.cli.option_errors import errors_about
    from crosstime.cli.options import comma_separated, refuse_file_as_folder
    from crosstime.cli.output import print_line, print_paths, save_charts
    from crosstime.cli.tables import selection_table
    from crosstime.errors import SuiteError
    from crosstime.machine.storage import write_json
    from crosstime.report.charts.accuracy import accuracy_chart
    from crosstime.report.charts.similarity import change_chart
    from crosstime.suites.select import select as select_checkpoints

    # Read the survey
    refuse_file_as_folder(out)
    accuracy, similarity = _read(out / "accuracy.csv"), _read(out / "similarity.csv")
    if accuracy is None and similarity is None:
        raise SuiteError(
            f"{out} has neither accuracy.csv nor similarity.csv: run crosstime accuracy or similarity first"
        )

    # Choose
    fixed_revisions = comma_separated(keep) if keep else []
    words = {"weight": "--weight", "to keep": "--keep", "to be kept": "--keep", "k": "-k", "measure": "--measure"}
    with errors_about(words):
        choice = select_checkpoints(k, accuracy, similarity, weight=weight, measure=measure, keep=fixed_revisions)

    # Write and draw
    charts = {"selection_change": change_chart(choice.changes, choice.revisions)}
    if accuracy is not None and "accuracy" in accuracy_charts(accuracy):
        charts["selection_accuracy"] = accuracy_chart(accuracy.dropna(subset="accuracy"), choice.revisions)
    settings = {"k": k, "keep": fixed_revisions, "weight": weight, "measure": measure}
    write_json(
        out / "selection.json",
        {"revisions": choice.revisions, **settings, "total": choice.total, "steps": choice.table.to_dict("records")},
    )
    paths = [out / "selection.json", *save_charts(out, charts)]

    # Print
    console = Console()
    console.print(selection_table(choice))
    print_line(console, f"revisions = {','.join(choice.revisions)}")
    print_paths(console, paths)


def _read(path: Path) -> pd.DataFrame | None:
    """A table of the survey; None if it was not measured."""
    from crosstime.machine.storage import read_table

    return read_table(path, dtypes={"revision": str, "other": str, "task": str}) if path.is_file() else None
