"""``crosstime convert FROM TO --to FORMAT``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[Path, typer.Argument(help="A crosscoder: a file or a folder.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="Where to write it.", show_default=False)],
    to: Annotated[
        str, typer.Option("--to", help="crosstime, ctt, ckkissane, finetuning or saelens (one checkpoint).")
    ] = "crosstime",
    of: Annotated[str | None, typer.Option("--from", help="Format of the source; default: detected.")] = None,
    suite: Annotated[str | None, typer.Option("--suite", help="Name of its suite, if the source lacks it.")] = None,
    revisions: Annotated[
        str | None, typer.Option("--revisions", "-r", help="Its checkpoints in order, separated by commas.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", "-s", help="Its site, such as resid.8.")] = None,
    scales: Annotated[
        str | None, typer.Option("--scales", help="Scales of its checkpoints, separated by commas, if it has none.")
    ] = None,
) -> None:
    """Convert a crosscoder between crosstime's own file and the formats of other tools.

    Pickles are read for their tensors only; anything else in them is refused.
    """
    from rich.console import Console

    from crosstime.cli.options import comma_separated
    from crosstime.cli.output import print_line
    from crosstime.crosscoders import exchange
    from crosstime.errors import CrosscoderError

    # Read
    try:
        numbers = None if scales is None else [float(scale) for scale in comma_separated(scales)]
    except ValueError as error:
        raise CrosscoderError(f"--scales takes numbers separated by commas, not {scales!r}") from error
    names = None if revisions is None else comma_separated(revisions)
    crosscoder = exchange.read(source, format=of, suite=suite, revisions=names, site=site, scales=numbers)

    # Write
    exchange.write(crosscoder, target, format=to)
    kind, origin = crosscoder.activation.name, crosscoder.origin
    checkpoints = ", ".join(origin.revisions)
    print_line(
        Console(),
        f"wrote {target}: {crosscoder.n_features:,} features ({kind}) of {checkpoints} at {origin.site}",
    )
