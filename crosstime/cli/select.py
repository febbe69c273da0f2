"""``crosstime select``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosstime.cli.options import OUT


def select(
    k: Annotated[int, typer.Option("-k", help="How many checkpoints.")] = 3,
    keep: Annotated[str | None, typer.Option("--keep", help="Checkpoints that must be chosen, with commas.")] = None,
    weight: Annotated[float, typer.Option("--weight", help="Of accuracy against representation, 0 to 1.")] = 0.5,
    measure: Annotated[str, typer.Option("--measure", help="cosine, pearson or cka.")] = "cosine",
    out: Annotated[Path, OUT] = Path("survey"),
) -> None:
    """Propose K checkpoints to compare: those between which accuracy and representation change most.

    Reads what accuracy and similarity wrote to OUT, or the one of them that is there; writes selection.json and charts
    beside it. To overrule the proposal, name checkpoints with --keep.
    """
    from rich.console import Console
    from rich.table import Table

    from crosstime.cli.accuracy import charts
    from crosstime.cli.options import comma_separated, save_charts
    from crosstime.errors import SuiteError
    from crosstime.machine.storage import read_table, write_json
    from crosstime.report.charts.accuracy import accuracy_chart
    from crosstime.report.charts.similarity import change_chart
    from crosstime.suites.select import select as choose

    names = {"revision": str, "other": str, "task": str}
    tables = {
        name: read_table(out / f"{name}.csv", dtypes=names) if (out / f"{name}.csv").is_file() else None
        for name in ("accuracy", "similarity")
    }
    if all(table is None for table in tables.values()):
        raise SuiteError(
            f"{out} has neither accuracy.csv nor similarity.csv: run crosstime accuracy or similarity first"
        )
    wanted = comma_separated(keep) if keep else []
    choice = choose(k, **tables, weight=weight, measure=measure, keep=wanted)
    drawn = {"selection_change": change_chart(choice.changes, choice.revisions)}
    accuracy = tables["accuracy"]
    if accuracy is not None and "accuracy" in charts(accuracy):
        drawn["selection_accuracy"] = accuracy_chart(accuracy.dropna(subset="accuracy"), choice.revisions)
    settings = {"k": k, "keep": wanted, "weight": weight, "measure": measure}
    write_json(
        out / "selection.json",
        {"revisions": choice.revisions, **settings, "total": choice.total, "steps": choice.table.to_dict("records")},
    )
    paths = [out / "selection.json", *save_charts(out, drawn)]
    table = Table(title="Change from the chosen checkpoint before", title_justify="left")
    for name in ("checkpoint", "accuracy", "representation", "weighed"):
        table.add_column(name, justify="left" if name == "checkpoint" else "right")
    for row in choice.table[choice.table["chosen"]].itertuples():
        numbers = (row.accuracy_change, row.representation_change, row.change)
        table.add_row(row.revision, *("" if number != number else f"{number:.3f}" for number in numbers))
    console = Console()
    console.print(table)
    console.print(f"revisions = {','.join(choice.revisions)}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"wrote {', '.join(map(str, paths))}", highlight=False, markup=False, soft_wrap=True)
