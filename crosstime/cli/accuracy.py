"""``crosstime accuracy SUITE TASK...``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosstime.cli.options import (
    DataPath,
    Device,
    DType,
    EqualWeights,
    MaxTokens,
    PairLimit,
    RemoteHost,
    Revisions,
    Seed,
    SuiteSource,
    SurveyFolder,
    TaskNames,
    TrustedCode,
)

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


def accuracy(
    suite: SuiteSource,
    names: TaskNames,
    path: DataPath = None,
    limit: PairLimit = None,
    sentences: Annotated[bool, typer.Option(help="Also score whole sentences.")] = True,
    prepend: Annotated[
        str | None,
        typer.Option("--prepend", help="Begin prompts with bos, eos, or bos-or-eos; default: as the tokenizer does."),
    ] = None,
    revisions: Revisions = None,
    allow_equal_weights: EqualWeights = False,
    trust_remote_code: TrustedCode = False,
    out: SurveyFolder = Path("survey"),
    seed: Seed = 0,
    device: Device = None,
    dtype: DType = "float32",
    max_tokens: MaxTokens = None,
    remote: RemoteHost = None,
) -> None:
    """Measure the accuracy of each checkpoint on each task, and draw it against training tokens.

    Writes accuracy.csv and charts to OUT. Finished measurements are kept in OUT/cache, from which a command that was
    stopped resumes.
    """
    from dataclasses import replace

    from crosstime.cli.option_errors import errors_about
    from crosstime.cli.options import load_tasks, open_compute, open_suite, refuse_file_as_folder

    # Read the options, without PyTorch
    refuse_file_as_folder(out)
    loaded = [replace(task, prepend=prepend) for task in load_tasks(names, path, limit=limit, seed=seed)]
    checkpoints = open_suite(
        suite, revisions, allow_equal_weights=allow_equal_weights, trust_remote_code=trust_remote_code
    )
    compute = open_compute(device, dtype, max_tokens, remote, folder=out)

    # Measure
    from crosstime.suites.accuracy import accuracy as measure_accuracy
    from interventions import Bootstrap

    with errors_about({"start token": "--prepend"}):
        table = measure_accuracy(
            checkpoints,
            loaded,
            sentences=sentences,
            cache=out / "cache",
            bootstrap=Bootstrap(seed=seed),
            compute=compute,
        )

    # Write, draw and print
    from rich.console import Console

    from crosstime.cli.output import print_paths, print_traffic, save_charts, save_equal_weights
    from crosstime.cli.tables import accuracy_table, pairs_table
    from crosstime.machine.storage import write_table

    write_table(out / "accuracy.csv", table)
    weights = save_equal_weights(out / "accuracy.csv", checkpoints)
    charts = save_charts(out, accuracy_charts(table, ordered=checkpoints.ordered))
    console = Console()
    for title, rows in _by_kind(table).items():
        console.print(accuracy_table(rows, title=title, ordered=checkpoints.ordered))
    console.print(pairs_table(table))
    print_traffic(console, compute)
    print_paths(console, [out / "accuracy.csv", *weights, *charts])


def accuracy_charts(table: pd.DataFrame, *, ordered: bool = True) -> dict[str, alt.LayerChart]:
    """Charts of an accuracy table by file name; empty if the training tokens of checkpoints in order are unknown."""
    from crosstime.report.charts.accuracy import accuracy_chart
    from crosstime.report.charts.accuracy_of_models import accuracy_of_models_chart

    if ordered and table["tokens"].isna().any():
        return {}
    files = {"Accuracy at the answer token": "accuracy", "Accuracy of whole sentences": "sentence_accuracy"}
    draw = accuracy_chart if ordered else accuracy_of_models_chart
    return {files[title]: draw(rows) for title, rows in _by_kind(table).items()}


def _by_kind(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A table for each kind of accuracy by its title, under the same column names; without empty ones."""
    kinds = {"Accuracy at the answer token": table.dropna(subset="accuracy")}
    if "sentence_accuracy" in table:
        columns = ["n", "accuracy", "low", "high"]
        kinds["Accuracy of whole sentences"] = table.drop(columns=[*columns, "logit_difference"]).rename(
            columns={f"sentence_{name}": name for name in columns} | {"sentence_difference": "logit_difference"}
        )
    return {title: rows for title, rows in kinds.items() if len(rows)}
