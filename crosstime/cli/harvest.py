"""``crosstime harvest SUITE TEXT STORE``"""

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
    SiteName,
    SuiteSource,
    TextSource,
    TextStart,
    TrustedCode,
)


def harvest(
    suite: SuiteSource,
    text: TextSource,
    store: Annotated[
        Path, typer.Argument(metavar="STORE", help="Folder of the store; an unfinished store is resumed.")
    ],
    site: SiteName = "resid.-1",
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=1, help="Number of tokens; default: the whole text.")
    ] = None,
    length: Length = 1024,
    store_dtype: Annotated[str, typer.Option("--store-dtype", help="bfloat16, float16, float32 or int8.")] = "bfloat16",
    shard_tokens: Annotated[int, typer.Option("--shard-tokens", min=1, help="Tokens of one file.")] = 1 << 17,
    revisions: Revisions = None,
    allow_equal_weights: EqualWeights = False,
    trust_remote_code: TrustedCode = False,
    text_start: TextStart = "tokenizer",
    device: Device = None,
    dtype: DType = "float32",
    max_tokens: MaxTokens = None,
    remote: RemoteHost = None,
) -> None:
    """Write the checkpoints' activations on a text to disk, to train several crosscoders on them.

    On several GPUs: torchrun --no-python --nproc-per-node 3 crosstime harvest ...; each process runs a checkpoint at a
    time. After an interruption, the same command resumes; on a finished store, it compares every checksum and rewrites
    damaged files.
    """
    from crosstime.cli.option_errors import errors_about
    from crosstime.cli.options import (
        open_compute,
        open_suite,
        read_site,
        refuse_file_as_folder,
        refuse_layer_or_length,
        refuse_missing_text,
    )

    # Read the options, without PyTorch
    read_at = read_site(site)
    refuse_missing_text(text)
    refuse_file_as_folder(store, "STORE")
    checkpoints = open_suite(
        suite,
        revisions,
        allow_equal_weights=allow_equal_weights,
        trust_remote_code=trust_remote_code,
        text_start=text_start,
    )
    compute = open_compute(device, dtype, max_tokens, remote)
    if length >= 2:  # shorter ones are refused below
        refuse_layer_or_length(checkpoints, site=read_at, length=length)

    # Write the store
    from crosstime.activations.harvest import harvest as harvest_activations

    places = {
        "sequences need at least": "--length",
        "a store needs at least": "--tokens",
        "there is no dtype": "--store-dtype",
        "too large for float16": "--store-dtype",
    }
    with errors_about(places):
        activations = harvest_activations(
            checkpoints,
            read_at,
            text,
            store,
            tokens=tokens,
            sequence_length=length,
            dtype=store_dtype,
            shard_tokens=shard_tokens,
            compute=compute,
        )

    # Print what it holds, once
    from crosstime.machine.processes import join_processes

    if not join_processes(compute.torch_device).first:
        return
    from rich.console import Console

    from crosstime.cli.output import print_traffic
    from crosstime.cli.tables import store_table

    console = Console()
    console.print(store_table(activations))
    print_traffic(console, compute)
    if tokens is not None and activations.n_tokens <= tokens - length:
        console.print(f"the text has no more: {tokens:,} tokens were asked for", highlight=False)
