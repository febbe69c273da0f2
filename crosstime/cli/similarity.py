"""``crosstime similarity SUITE TEXT``"""

from __future__ import annotations

from pathlib import Path

from crosstime.cli.options import (
    Device,
    DType,
    EqualWeights,
    Length,
    MaxTokens,
    RemoteHost,
    Revisions,
    Sequences,
    SiteName,
    SuiteSource,
    SurveyFolder,
    TextSource,
    TextStart,
    TrustedCode,
)


def similarity(
    suite: SuiteSource,
    text: TextSource,
    site: SiteName = "resid.-1",
    sequences: Sequences = 64,
    length: Length = 64,
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
    """Compare a site's activations between all pairs of checkpoints, and draw heat maps.

    Writes similarity.csv and a heat map of each measure (cosine, Pearson correlation, linear CKA) to OUT.
    """
    from crosstime.cli.options import (
        open_compute,
        open_suite,
        read_sample,
        read_site,
        refuse_file_as_folder,
        refuse_layer_or_length,
        refuse_missing_text,
    )

    # Read the options, without PyTorch
    read_at = read_site(site)
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
    refuse_layer_or_length(checkpoints, site=read_at, length=length)

    # Measure
    from crosstime.suites.similarity import similarity as measure_similarity

    table = measure_similarity(
        checkpoints,
        read_at,
        text,
        sample,
        compute=compute,
    )

    # Write, draw and print
    from rich.console import Console

    from crosstime.cli.output import print_paths, print_traffic, save_charts, save_equal_weights
    from crosstime.cli.tables import similarity_table
    from crosstime.machine.storage import write_table
    from crosstime.report.charts.similarity import similarity_chart
    from crosstime.suites.similarity_measures import MEASURES

    write_table(out / "similarity.csv", table)
    weights = save_equal_weights(out / "similarity.csv", checkpoints)
    charts = save_charts(out, {f"similarity_{measure}": similarity_chart(table, measure) for measure in MEASURES})
    console = Console()
    console.print(similarity_table(table, site))
    print_traffic(console, compute)
    print_paths(console, [out / "similarity.csv", *weights, *charts])
