"""``crosstime evaluate SUITE TEXT CROSSCODER ...``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosstime.cli.options import (
    Device,
    DType,
    EqualWeights,
    Length,
    MaxTokens,
    RemoteHost,
    Scales,
    Sequences,
    SuiteSource,
    SurveyFolder,
    TextSource,
    TrustedCode,
)


def evaluate(
    suite: SuiteSource,
    text: TextSource,
    crosscoders: Annotated[
        list[str],
        typer.Argument(metavar="CROSSCODER", help="Crosscoders in any format; several of one kind are averaged."),
    ],
    sequences: Sequences = 256,
    length: Length = 64,
    scales: Scales = None,
    allow_equal_weights: EqualWeights = False,
    trust_remote_code: TrustedCode = False,
    out: SurveyFolder = Path("survey"),
    device: Device = None,
    dtype: DType = "float32",
    max_tokens: MaxTokens = None,
    remote: RemoteHost = None,
) -> None:
    """Measure what crosscoders explain, and what the model loses when it runs on their reconstructions.

    Writes evaluation.csv with a row for each crosscoder and checkpoint, and evaluation.json with means and deviations
    over the crosscoders, to OUT. With --scales, all crosscoders have these scales, whatever their files say.
    """
    from crosstime.cli.option_errors import errors_about
    from crosstime.cli.options import (
        open_compute,
        open_suite,
        read_sample,
        read_scales,
        refuse_file_as_folder,
        refuse_layer_or_length,
        refuse_missing_crosscoder,
        refuse_missing_text,
    )

    # Read the options, without PyTorch
    numbers = read_scales(scales)
    sample = read_sample(sequences, length)
    refuse_file_as_folder(out)
    refuse_missing_text(text)
    for crosscoder in crosscoders:
        refuse_missing_crosscoder(crosscoder)
    checkpoints = open_suite(suite, None, allow_equal_weights=allow_equal_weights, trust_remote_code=trust_remote_code)
    compute = open_compute(device, dtype, max_tokens, remote, folder=out)
    refuse_layer_or_length(checkpoints, length=length)

    # Measure
    from crosstime.crosscoders import exchange
    from crosstime.crosscoders.evaluate import evaluate_seeds, over_seeds
    from crosstime.crosscoders.open_crosscoder import open_crosscoder

    with errors_about({} if numbers is None else {"scales": "--scales"}, "CROSSCODER"):
        loaded = [
            open_crosscoder(crosscoder)
            if numbers is None and exchange.detect(crosscoder) == "crosstime"
            else exchange.read(crosscoder, scales=numbers)
            for crosscoder in crosscoders
        ]
    by_crosscoder = evaluate_seeds(checkpoints, loaded, text, sample=sample, compute=compute)
    table = over_seeds(by_crosscoder)

    # Write and print
    from rich.console import Console

    from crosstime.cli.output import print_paths, print_traffic, save_equal_weights
    from crosstime.cli.tables import evaluation_table
    from crosstime.machine.storage import write_json, write_table
    from crosstime.report.outlier_note import outlier_note

    write_table(out / "evaluation.csv", by_crosscoder)
    weights = save_equal_weights(out / "evaluation.csv", checkpoints.select(loaded[0].origin.revisions))
    write_json(out / "evaluation.json", table.to_dict("records"))
    console = Console()
    console.print(evaluation_table(table))
    if note := outlier_note(table):
        console.print(note, highlight=False)
    print_traffic(console, compute)
    print_paths(console, [out / "evaluation.csv", *weights, out / "evaluation.json"])
