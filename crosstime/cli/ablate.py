"""``crosstime ablate SUITE CROSSCODER TASK...``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosstime.cli.attribute import CrosscoderPath, open_pair, refuse_missing_path
from crosstime.cli.options import (
    DataPath,
    Device,
    DType,
    EqualWeights,
    MaxTokens,
    PairLimit,
    RemoteHost,
    Sandboxed,
    Seed,
    SuiteSource,
    TaskNames,
    TrustedCode,
    comma_separated,
)


def ablate(
    suite: SuiteSource,
    crosscoder: CrosscoderPath,
    names: TaskNames,
    features: Annotated[
        list[str],
        typer.Option(
            "--features",
            "-f",
            help="Features by number, separated by commas, each ablated alone; NAME=3,17 ablates a group jointly; may "
            "be repeated.",
            show_default=False,
        ),
    ],
    path: DataPath = None,
    limit: PairLimit = None,
    allow_equal_weights: EqualWeights = False,
    trust_remote_code: TrustedCode = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the table.")] = Path("ablation"),
    seed: Seed = 0,
    device: Device = None,
    dtype: DType = "float32",
    max_tokens: MaxTokens = None,
    remote: RemoteHost = None,
    sandboxed: Sandboxed = "auto",
) -> None:
    """Set features of a crosscoder to zero, and measure accuracy and logit difference of tasks at every checkpoint.

    Writes ablation.csv to OUT, with a row for each task, checkpoint and group of features: accuracy and logit
    difference without them, and the changes with intervals.
    """
    from crosstime.cli.options import load_tasks, open_compute, refuse_file_as_folder, refuse_missing_source
    from crosstime.errors import errors_at

    # Read the options, without PyTorch
    refuse_file_as_folder(out)
    groups = _groups(features)
    compute = open_compute(device, dtype, max_tokens, remote, sandboxed=sandboxed, folder=out)
    loaded_tasks = load_tasks(names, path, limit=limit, seed=seed)
    refuse_missing_source(suite)
    refuse_missing_path(crosscoder)

    # Ablate
    import pandas as pd

    from crosstime.effects.ablate import ablate as ablate_features
    from interventions import Bootstrap
    from interventions.codes import check_feature

    checkpoints, loaded = open_pair(
        suite, crosscoder, allow_equal_weights=allow_equal_weights, trust_remote_code=trust_remote_code
    )
    for feature in dict.fromkeys(feature for group in groups.values() for feature in group):
        with errors_at("--features"):
            check_feature(feature, loaded.n_features)
    bootstrap = Bootstrap(resamples=2_000, seed=seed)
    tables = [
        ablate_features(checkpoints, loaded, task, groups, bootstrap=bootstrap, compute=compute)
        for task in loaded_tasks
    ]

    # Write and print
    from rich.console import Console

    from crosstime.cli.output import print_paths, print_traffic
    from crosstime.cli.tables import ablation_table
    from crosstime.machine.storage import write_table

    write_table(out / "ablation.csv", pd.concat(tables, ignore_index=True))
    console = Console()
    for table in tables:
        console.print(ablation_table(table))
    print_traffic(console, compute)
    print_paths(console, [out / "ablation.csv"])


def _groups(options: list[str]) -> dict[str, list[int]]:
    """The groups of ``--features``: each number alone, or all numbers behind a name.

    Raises:
        CrosstimeError: an option is not of either form, or a name is given twice.

    Examples:
        >>> _groups(["3,17", "late=5,8"])
        {'3': [3], '17': [17], 'late': [5, 8]}
    """
    from crosstime.errors import CrosstimeError

    groups: dict[str, list[int]] = {}
    for option in options:
        name, equals, text = option.partition("=")
        numbers = comma_separated(text if equals else option)
        if not numbers or not all(number.isdecimal() for number in numbers) or (equals and not name.strip()):
            raise CrosstimeError(f"--features takes numbers separated by commas, or NAME=NUMBERS, not {option!r}")
        listed = {name.strip(): numbers} if equals else {number: [number] for number in numbers}
        for group, members in listed.items():
            if group in groups:
                raise CrosstimeError(f"--features names the group {group!r} twice")
            groups[group] = [int(number) for number in members]
    return groups
