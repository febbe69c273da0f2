"""``crosstime convert FROM TO --to FORMAT``"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosstime.cli.options import Device, DType, Length, MaxTokens, Scales, Sequences

if TYPE_CHECKING:
    from torch import Tensor

    from crosstime.crosscoders.origin import Origin
    from crosstime.suites.compute import Compute
    from crosstime.suites.text_sample import TextSample


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="FROM", help="A crosscoder: a file or a folder.", show_default=False)
    ],
    target: Annotated[Path, typer.Argument(metavar="TO", help="Where to write it.", show_default=False)],
    to: Annotated[
        str,
        typer.Option("--to", help="crosstime, ctt, ckkissane, finetuning, llamascopium or saelens (one checkpoint)."),
    ] = "crosstime",
    of: Annotated[str | None, typer.Option("--from", help="Format of the source; default: detected.")] = None,
    suite: Annotated[str | None, typer.Option("--suite", help="Name of its suite, if the source lacks it.")] = None,
    revisions: Annotated[
        str | None, typer.Option("--revisions", "-r", help="Its checkpoints in order, separated by commas.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", "-s", help="Its site, such as resid.8.")] = None,
    scales: Scales = None,
    scales_from: Annotated[
        str | None,
        typer.Option("--scales-from", help="Estimate its scales: a folder of checkpoints, or a Hub repository."),
    ] = None,
    corpus: Annotated[
        str | None, typer.Option("--corpus", "-c", help="Text to estimate them on (.txt, .jsonl, hf:ORG/NAME).")
    ] = None,
    sequences: Sequences = 256,
    length: Length = 64,
    first_tokens: Annotated[
        bool, typer.Option("--first-tokens", help="Count the first token of each sequence, as CTT's estimates do.")
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="A setting of its configuration that changes no code; may be repeated."),
    ] = None,
    parts: Annotated[
        int | None,
        typer.Option(
            "--parts", min=1, help="Divide the features among so many files, 1 to join them (crosstime's format)."
        ),
    ] = None,
    device: Device = None,
    dtype: DType = "float32",
    max_tokens: MaxTokens = None,
) -> None:
    """Convert a crosscoder between crosstime's own file and the formats of other tools, join its parts, or divide it.

    Pickles are read for their tensors only; anything else in them is refused. Crosscoders that were trained on scaled
    activations need their scales: those in the file, those of --scales, or estimates on a text with --scales-from.
    With --parts, the crosscoder is copied a block at a time, so that it may be larger than memory.
    """
    from dataclasses import replace

    from crosstime.cli.option_errors import errors_about
    from crosstime.cli.options import (
        comma_separated,
        open_compute,
        read_sample,
        read_scales,
        read_site,
        refuse_file_as_folder,
        refuse_missing_crosscoder,
        refuse_missing_source,
        refuse_missing_text,
    )
    from crosstime.crosscoders.exchange.format_names import refuse_read_only, refuse_unknown_format
    from crosstime.errors import CrosscoderError, errors_at

    # Read the options, without PyTorch
    numbers = read_scales(scales)
    names = None if revisions is None else comma_separated(revisions)
    if (scales_from is None) != (corpus is None) or (scales is not None and scales_from is not None):
        raise CrosscoderError("scales are either given with --scales, or estimated with --scales-from and --corpus")
    with errors_at("--to"):
        refuse_read_only(to)
    if of is not None:
        with errors_at("--from"):
            refuse_unknown_format(of)
    if site is not None:
        read_site(site)
    refuse_missing_crosscoder(source, "FROM")
    refuse_file_as_folder(target.parent, "TO")
    compute = open_compute(device, dtype, max_tokens)
    if parts is not None:
        changes = (of, suite, revisions, site, scales, scales_from, corpus, ignore)
        if to != "crosstime" or any(change is not None for change in changes):
            raise CrosscoderError(
                "--parts divides or joins a crosscoder of crosstime's format as it is: leave out the other options, or "
                "convert it first"
            )
        _repartition(source, target, parts)
        return
    if corpus is not None:
        refuse_missing_text(corpus, place="--corpus")
    if scales_from is not None:
        refuse_missing_source(scales_from, "--scales-from")
    sample = read_sample(sequences, length)

    # Read the crosscoder, and estimate its scales
    from crosstime.crosscoders import exchange

    with errors_at("TO"):
        exchange.check_target(target, to)
    estimate, note = None, ""
    if scales_from is not None and corpus is not None:
        note = f"estimated from {scales_from} on {corpus}, {sequences} sequences of {length} tokens"
        estimate = _estimator(scales_from, corpus, sample, compute, first_tokens=first_tokens)
    typed = {"--revisions": names, "--site": site, "--scales": numbers, "--from": of}
    places = {place.removeprefix("--"): place for place, value in typed.items() if value is not None}
    places |= {"--scales-from": "--scales-from", "text": "--corpus"}
    with errors_about(places, "FROM" if of is None else "--from"):
        crosscoder = exchange.read(
            source, format=of, suite=suite, revisions=names, site=site, scales=estimate or numbers, ignore=ignore or ()
        )
    if estimate is not None:
        training = crosscoder.origin.training | {exchange.SCALES_NOTE: note}
        crosscoder.origin = replace(crosscoder.origin, training=training)

    # Write
    from rich.console import Console

    from crosstime.cli.output import print_line

    with errors_at("--to"):
        exchange.write(crosscoder, target, format=to)
    kind, origin = crosscoder.activation.name, crosscoder.origin
    checkpoints = ", ".join(origin.revisions)
    console = Console()
    if estimate is not None:
        print_line(console, f"scales: {', '.join(f'{scale:.6g}' for scale in crosscoder.scales.tolist())} ({note})")
    print_line(
        console,
        f"wrote {target}: {crosscoder.n_features:,} features ({kind}) of {checkpoints} at {origin.site}",
    )


def _repartition(source: Path, target: Path, parts: int) -> None:
    """Copy a crosscoder to another number of files."""
    from rich.console import Console

    from crosstime.cli.option_errors import errors_about
    from crosstime.cli.output import print_line
    from crosstime.crosscoders.exchange.formats import check_target
    from crosstime.crosscoders.sliced_crosscoder import SlicedCrossCoder
    from crosstime.errors import CrosscoderError, errors_at

    if parts < 1:
        raise CrosscoderError(f"--parts must be at least 1, not {parts}")
    with errors_at("FROM"):
        crosscoder = SlicedCrossCoder(source)
    with errors_about({"shards": "--parts"}, "TO"):
        check_target(target, "crosstime")
        crosscoder.save_parts(target, parts)
    files = "one file" if parts == 1 else f"{parts} parts"
    print_line(Console(), f"wrote {target}: {crosscoder.n_features:,} features in {files}")


def _estimator(
    source: str, corpus: str, sample: TextSample, compute: Compute, *, first_tokens: bool
) -> Callable[[Origin], Tensor]:
    """A function that measures the scales of a crosscoder's checkpoints on a text."""
    from crosstime.activations.estimate_scales import estimate_scales
    from crosstime.cli.options import open_suite
    from crosstime.errors import CrosscoderError, errors_at

    def estimate(origin: Origin) -> Tensor:
        checkpoints = open_suite(source, origin.revisions, place="--scales-from")
        with errors_at("--scales-from"):
            compute.verify(checkpoints)
        if checkpoints.d_model != origin.d_model:
            raise CrosscoderError(
                f"--scales-from: the crosscoder is of width {origin.d_model}, and {source} of {checkpoints.d_model}"
            )
        return estimate_scales(checkpoints, origin.site, corpus, sample, first_tokens=first_tokens, compute=compute)

    return estimate
