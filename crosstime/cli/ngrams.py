"""``crosstime ngrams SUITE TEXT``"""

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
    Revisions,
    Sequences,
    SuiteSource,
    SurveyFolder,
    TextSource,
    TextStart,
    TrustedCode,
)


def ngrams(
    suite: SuiteSource,
    text: TextSource,
    sequences: Sequences = 64,
    length: Length = 64,
    counted: Annotated[
        int | None,
        typer.Option("--counted", help="Further sequences that are counted; default: all the rest."),
    ] = None,
    revisions: Revisions = None,
    allow_equal_weights: EqualWeights = False,
    trust_remote_code: TrustedCode = False,
    text_start: TextStart = "tokenizer",
    out: SurveyFolder = Path("survey"),
    device: Device = None,
    dtype: DType = "float32",
    max_tokens: MaxTokens = None,
    remote: RemoteHost = None,
) -> None:
    """Measure how close each checkpoint's predictions are to the unigrams and bigrams of a text.

    Writes ngrams.csv and a chart to OUT.
    """
    from crosstime.cli.option_errors import errors_about
    from crosstime.cli.options import (
        open_compute,
        open_suite,
        read_sample,
        refuse_file_as_folder,
        refuse_layer_or_length,
        refuse_missing_text,
    )

    # Read the options, without PyTorch
    refuse_missing_text(text)
    refuse_file_as_folder(out)
    sample = read_sample(sequences, length)
    checkpoints = open_suite(
        suite,
        revisions,
        allow_equal_weights=allow_equal_weights,
        trust_remote_code=trust_remote_code,
        text_start=text_start,
    )
    compute = open_compute(device, dtype, max_tokens, remote, folder=out)
    refuse_layer_or_length(checkpoints, length=length)

    # Measure
    from crosstime.suites.ngram_divergence import ngram_divergence

    with errors_about({"must be counted": "--counted", "fewer sequences": "--sequences"}):
        divergence = ngram_divergence(
            checkpoints,
            text,
            sample,
            counted_sequences=counted,
            compute=compute,
        )

    # Write, draw and print; the chart needs the checkpoints' training tokens
    from rich.console import Console

    from crosstime.cli.output import print_paths, print_traffic, save_charts, save_equal_weights
    from crosstime.cli.tables import ngram_table
    from crosstime.machine.storage import write_table
    from crosstime.report.charts.ngrams import ngram_chart

    write_table(out / "ngrams.csv", divergence)
    weights = save_equal_weights(out / "ngrams.csv", checkpoints)
    charts = save_charts(out, {} if divergence["tokens"].isna().any() else {"ngrams": ngram_chart(divergence)})
    console = Console()
    console.print(ngram_table(divergence))
    print_traffic(console, compute)
    print_paths(console, [out / "ngrams.csv", *weights, *charts])
