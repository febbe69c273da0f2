"""``crosstime convert FROM TO --to FORMAT``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[Path, typer.Argument(help="A crosscoder: a file or folder.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="Where to write it.", show_default=False)],
    to: Annotated[
        str, typer.Option("--to", help="crosstime, ctt, ckkissane, finetuning or saelens (one checkpoint).")
    ] = "crosstime",
    of: Annotated[str | None, typer.Option("--from", help="Format of the source; else found out.")] = None,
    suite: Annotated[str | None, typer.Option("--suite", help="Name of its suite, where the source lacks it.")] = None,
    revisions: Annotated[
        str | None, typer.Option("--revisions", "-r", help="Its checkpoints in order, with commas between.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", "-s", help="Its site, such as resid.8.")] = None,
    scales: Annotated[
        str | None, typer.Option("--scales", help="Scales of its checkpoints, with commas between, if it has none.")
    ] = None,
) -> None:
    """Convert a crosscoder between crosstime's own file and the formats of other tools.

    Pickles are read for their tensors only; anything else in them is refused.
    """
    from rich.console import Console

    from crosstime.cli.options import comma_separated
    from crosstime.crosscoders import exchange
    from crosstime.errors import CrosscoderError

    try:
        numbers = None if scales is None else [float(scale) for scale in comma_separated(scales)]
    except ValueError as error:
        raise CrosscoderError(f"--scales takes numbers with commas between, not {scales!r}") from error
    crosscoder = exchange.read(
        source, format=of, suite=suite, revisions=None if revisions is None else comma_separated(revisions), site=site,
        scales=numbers,
    )  # fmt: skip
    exchange.write(crosscoder, target, format=to)
    origin = crosscoder.origin
    Console().print(
        f"wrote {target}: {crosscoder.n_features:,} features ({crosscoder.activation.name}) of "
        f"{', '.join(origin.revisions)} at {origin.site}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
