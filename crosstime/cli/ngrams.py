"""``crosstime ngrams SUITE TEXT``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosstime.cli.options import DEVICE, DTYPE, MAX_TOKENS, OUT, REMOTE, REVISIONS, SUITE
from crosstime.cli.similarity import TEXT


def ngrams(
    suite: Annotated[str, SUITE],
    text: Annotated[str, TEXT],
    sequences: Annotated[int, typer.Option("--sequences", help="How many sequences the models read.")] = 64,
    length: Annotated[int, typer.Option("--length", help="Tokens of a sequence.")] = 64,
    counted: Annotated[int | None, typer.Option("--counted", help="Sequences to count; else all the rest.")] = None,
    revisions: Annotated[str | None, REVISIONS] = None,
    out: Annotated[Path, OUT] = Path("survey"),
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str, DTYPE] = "float32",
    max_tokens: Annotated[int | None, MAX_TOKENS] = None,
    remote: Annotated[str | None, REMOTE] = None,
) -> None:
    """Measure how near each checkpoint's predictions are to the unigrams and bigrams of a text.

    Writes ngrams.csv and a chart to OUT.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from crosstime.cli.options import compute_for, open_suite, save_charts, show_traffic
    from crosstime.machine.storage import write_table
    from crosstime.report.charts.ngrams import ngram_chart
    from crosstime.suites.corpus import TextSample
    from crosstime.suites.ngram_divergence import ngram_divergence

    compute = compute_for(device, dtype, max_tokens, remote, folder=out)
    found = ngram_divergence(
        open_suite(suite, revisions),
        text,
        TextSample(sequences, length),
        counted_sequences=counted,
        compute=compute,
    )
    write_table(out / "ngrams.csv", found)
    known = {} if found["tokens"].isna().any() else {"ngrams": ngram_chart(found)}
    paths = [out / "ngrams.csv", *save_charts(out, known)]
    console = Console()
    table = Table(title="Nats a token", title_justify="left")
    table.add_column("checkpoint")
    names = ("loss", "unigram_kl", "bigram_kl", "unigram_entropy", "bigram_entropy")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in found.to_dict("records"):
        table.add_row(escape(row["revision"]), *(f"{row[name]:.3f}" for name in names))
    console.print(table)
    show_traffic(compute, console)
    console.print(f"wrote {', '.join(map(str, paths))}", highlight=False, markup=False, soft_wrap=True)
