"""``crosstime harvest SUITE TEXT STORE``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosstime.cli.options import DEVICE, DTYPE, MAX_TOKENS, REMOTE, REVISIONS, SUITE
from crosstime.cli.similarity import TEXT


def harvest(
    suite: Annotated[str, SUITE],
    text: Annotated[str, TEXT],
    store: Annotated[Path, typer.Argument(help="Folder of the store; an unfinished one is gone on with.")],
    site: Annotated[str, typer.Option("--site", "-s", help="Where, such as resid.3, attn.0, mlp.-1.")] = "resid.-1",
    tokens: Annotated[int | None, typer.Option("--tokens", help="How many to keep; else the whole text.")] = None,
    length: Annotated[int, typer.Option("--length", help="Tokens of a sequence.")] = 1024,
    store_dtype: Annotated[str, typer.Option("--store-dtype", help="bfloat16, float16 or float32.")] = "bfloat16",
    shard_tokens: Annotated[int, typer.Option("--shard-tokens", help="Tokens of one file.")] = 1 << 17,
    revisions: Annotated[str | None, REVISIONS] = None,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str, DTYPE] = "float32",
    max_tokens: Annotated[int | None, MAX_TOKENS] = None,
    remote: Annotated[str | None, REMOTE] = None,
) -> None:
    """Write the checkpoints' activations on a text to disk, to train several crosscoders on them.

    Called again after an interruption, it goes on where it was; called again on a finished store, it compares every
    checksum and makes anew what is damaged.
    """
    from rich.console import Console

    from crosstime.activations.harvest import harvest as write
    from crosstime.cli.options import compute_for, open_suite, show_traffic
    from crosstime.cli.tables import store_table
    from interventions import Site

    compute = compute_for(device, dtype, max_tokens, remote)
    made = write(
        open_suite(suite, revisions),
        Site.parse(site),
        text,
        store,
        tokens=tokens,
        sequence_length=length,
        dtype=store_dtype,
        shard_tokens=shard_tokens,
        compute=compute,
    )
    console = Console()
    console.print(store_table(made))
    show_traffic(compute, console)
    if tokens is not None and made.n_tokens <= tokens - length:
        console.print(f"the text has no more: {tokens:,} tokens were asked for", highlight=False)
