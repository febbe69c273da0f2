"""``crosstime evaluate SUITE TEXT CROSSCODER ...``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosstime.cli.options import DEVICE, DTYPE, MAX_TOKENS, OUT, REMOTE, SUITE
from crosstime.cli.similarity import TEXT


def evaluate(
    suite: Annotated[str, SUITE],
    text: Annotated[str, TEXT],
    crosscoders: Annotated[
        list[str], typer.Argument(help="Crosscoders in any format; several of one kind are averaged.")
    ],
    sequences: Annotated[int, typer.Option("--sequences", help="How many sequences of text.")] = 256,
    length: Annotated[int, typer.Option("--length", help="Tokens of a sequence.")] = 64,
    out: Annotated[Path, OUT] = Path("survey"),
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str, DTYPE] = "float32",
    max_tokens: Annotated[int | None, MAX_TOKENS] = None,
    remote: Annotated[str | None, REMOTE] = None,
) -> None:
    """Measure what crosscoders explain, and what the model loses when they are spliced in.

    Writes evaluation.csv with a row for each crosscoder and checkpoint, and evaluation.json with means and deviations
    over the crosscoders, to OUT.
    """
    from rich.console import Console

    from crosstime.cli.options import compute_for, open_suite, show_traffic
    from crosstime.cli.tables import evaluation_table
    from crosstime.crosscoders import exchange
    from crosstime.crosscoders.evaluate import evaluate_seeds, over_seeds
    from crosstime.machine.storage import write_json, write_table
    from crosstime.suites.corpus import TextSample

    compute = compute_for(device, dtype, max_tokens, remote, folder=out)
    loaded = [exchange.read(crosscoder) for crosscoder in crosscoders]
    each = evaluate_seeds(
        open_suite(suite, None),
        loaded,
        text,
        sample=TextSample(sequences, length),
        compute=compute,
    )
    table = over_seeds(each)
    write_table(out / "evaluation.csv", each)
    write_json(out / "evaluation.json", table.to_dict("records"))
    console = Console()
    console.print(evaluation_table(table))
    show_traffic(compute, console)
    written = f"wrote {out / 'evaluation.csv'}, {out / 'evaluation.json'}"
    console.print(written, highlight=False, markup=False, soft_wrap=True)
