"""``crosstime similarity SUITE TEXT``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosstime.cli.options import DEVICE, DTYPE, MAX_TOKENS, OUT, REMOTE, REVISIONS, SUITE

TEXT = typer.Argument(help="A text file (.txt, .jsonl, also .gz), or a Hub data set written hf:ORG/NAME.")


def similarity(
    suite: Annotated[str, SUITE],
    text: Annotated[str, TEXT],
    site: Annotated[str, typer.Option("--site", "-s", help="Where, such as resid.3, attn.0, mlp.-1.")] = "resid.-1",
    sequences: Annotated[int, typer.Option("--sequences", help="How many sequences of text.")] = 64,
    length: Annotated[int, typer.Option("--length", help="Tokens of a sequence.")] = 64,
    revisions: Annotated[str | None, REVISIONS] = None,
    out: Annotated[Path, OUT] = Path("survey"),
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str, DTYPE] = "float32",
    max_tokens: Annotated[int | None, MAX_TOKENS] = None,
    remote: Annotated[str | None, REMOTE] = None,
) -> None:
    """Compare a site's activations between all pairs of checkpoints, and draw heat maps.

    Writes similarity.csv and a heat map of each measure (cosine, Pearson correlation, linear CKA) to OUT.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from crosstime.cli.options import compute_for, open_suite, save_charts, show_traffic
    from crosstime.machine.storage import write_table
    from crosstime.report.charts.similarity import similarity_chart
    from crosstime.suites.corpus import TextSample
    from crosstime.suites.similarity import MEASURES
    from crosstime.suites.similarity import similarity as measure
    from interventions import Site

    compute = compute_for(device, dtype, max_tokens, remote, folder=out)
    found = measure(
        open_suite(suite, revisions),
        Site.parse(site),
        text,
        TextSample(sequences, length),
        compute=compute,
    )
    write_table(out / "similarity.csv", found)
    paths = save_charts(out, {f"similarity_{name}": similarity_chart(found, name) for name in MEASURES})
    console = Console()
    order = list(dict.fromkeys(found["revision"]))
    table = Table(title=f"Mean cosine at {site}", title_justify="left")
    for name in ("", *order):
        table.add_column(escape(name), justify="right")
    for revision, rows in found.groupby("revision", sort=False):
        table.add_row(escape(str(revision)), *(f"{value:.2f}" for value in rows["cosine"]))
    console.print(table)
    show_traffic(compute, console)
    written = ", ".join(map(str, [out / "similarity.csv", *paths]))
    console.print(f"wrote {written}", highlight=False, markup=False, soft_wrap=True)
