"""``crosstime accuracy SUITE TASK...``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosstime.cli.options import DEVICE, DTYPE, MAX_TOKENS, OUT, REMOTE, REVISIONS, SEED, SUITE

if TYPE_CHECKING:
    import pandas as pd


def accuracy(
    suite: Annotated[str, SUITE],
    names: Annotated[list[str], typer.Argument(metavar="TASK...", help="Tasks by name; see crosstime tasks.")],
    path: Annotated[Path | None, typer.Option("--path", "-p", help="Where the tasks' data are; else the Hub.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="At most so many pairs of a task.")] = None,
    sentences: Annotated[bool, typer.Option(help="Also score whole sentences.")] = True,
    prepend: Annotated[
        str | None,
        typer.Option("--prepend", help="Begin prompts with bos, eos, or bos-or-eos; else as the tokenizer does."),
    ] = None,
    revisions: Annotated[str | None, REVISIONS] = None,
    out: Annotated[Path, OUT] = Path("survey"),
    seed: Annotated[int, SEED] = 0,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str, DTYPE] = "float32",
    max_tokens: Annotated[int | None, MAX_TOKENS] = None,
    remote: Annotated[str | None, REMOTE] = None,
) -> None:
    """Measure how well each checkpoint does each task, and draw it against training tokens.

    Writes accuracy.csv and charts to OUT. What was measured once is kept in OUT/cache, so that a run that was
    stopped goes on where it was.
    """
    from dataclasses import replace

    from rich.console import Console

    import tasks
    from crosstime.cli.options import compute_for, open_suite, save_charts, show_traffic
    from crosstime.cli.tables import accuracy_table
    from crosstime.machine.storage import write_table
    from crosstime.suites.accuracy import accuracy as measure
    from interventions import Bootstrap

    compute = compute_for(device, dtype, max_tokens, remote, folder=out)
    loaded = [replace(tasks.load(name, path, limit=limit, seed=seed), prepend=prepend) for name in names]
    table = measure(
        open_suite(suite, revisions),
        loaded,
        sentences=sentences,
        cache=out / "cache",
        bootstrap=Bootstrap(seed=seed),
        compute=compute,
    )
    write_table(out / "accuracy.csv", table)
    paths = [out / "accuracy.csv", *save_charts(out, charts(table))]
    console = Console()
    for title, part in _parts(table).items():
        shown = accuracy_table(part)
        shown.title = title
        console.print(shown)
    show_traffic(compute, console)
    console.print(f"wrote {', '.join(map(str, paths))}", highlight=False, markup=False, soft_wrap=True)


def charts(table: pd.DataFrame) -> dict[str, object]:
    """Charts of an accuracy table by file name; none where the checkpoints' training tokens are unknown."""
    from crosstime.report.charts.accuracy import accuracy_chart

    if table["tokens"].isna().any():
        return {}
    files = {"Accuracy at the answer token": "accuracy", "Accuracy of whole sentences": "sentence_accuracy"}
    return {files[title]: accuracy_chart(part) for title, part in _parts(table).items()}


def _parts(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The table of each kind of accuracy, under the same column names."""
    parts = {"Accuracy at the answer token": table.dropna(subset="accuracy")}
    if "sentence_accuracy" in table:
        columns = ["n", "accuracy", "low", "high"]
        whole = table.drop(columns=[*columns, "logit_difference"]).rename(
            columns={f"sentence_{name}": name for name in columns} | {"sentence_difference": "logit_difference"}
        )
        parts["Accuracy of whole sentences"] = whole
    return {title: part for title, part in parts.items() if len(part)}
