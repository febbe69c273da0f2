"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from crosstime.suites.compute import Compute
    from crosstime.suites.suite import Suite

SUITE = typer.Argument(help="A folder of checkpoints, or a Hub repository.", show_default=False)
REVISIONS = typer.Option("--revisions", "-r", help="Which checkpoints, in order, with commas between; else all.")
OUT = typer.Option("--out", "-o", help="Folder of the survey: tables, charts, cache.")
DEVICE = typer.Option("--device", help="cpu, cuda, cuda:1 ...; else the GPU where there is one.")
DTYPE = typer.Option("--dtype", help="float32, bfloat16 or float16.")
MAX_TOKENS = typer.Option("--max-tokens", help="Slots, padding included, in one forward pass.")
REMOTE = typer.Option("--remote", help="Run checkpoints on an NDIF server: its URL, or hosted; local simulates one.")
SANDBOXED = typer.Option("--sandboxed", help="Whether that server has no gradients: true, false, or auto, to find out.")
SEED = typer.Option("--seed", help="Of samples and of the bootstrap.")


def open_suite(source: str, revisions: str | None) -> Suite:
    """The suite of the checkpoints that were asked for."""
    from crosstime.suites.suite import Suite

    return Suite.open(source, None if revisions is None else comma_separated(revisions))


def compute_for(
    device: str | None,
    dtype: str,
    max_tokens: int | None,
    remote: str | None = None,
    *,
    sandboxed: str = "auto",
    folder: Path | None = None,
) -> Compute:
    """Where and how checkpoints run; the library's own budget where none is given.

    With a server, the ids of its jobs go to FOLDER/jobs.json, so that the same command takes them up again.
    """
    from crosstime.runs.jobs import JobFile
    from crosstime.runs.recipe.remote import RemoteRecipe
    from crosstime.suites.compute import Compute

    place = RemoteRecipe(remote, {"true": True, "false": False}.get(sandboxed, sandboxed))
    return Compute(device, dtype, max_tokens, place.open({} if folder is None else JobFile(folder / "jobs.json")))


def show_traffic(compute: Compute, console: Console) -> None:
    """Print what went to a server and came back, where there is one."""
    if compute.remote is not None:
        line = f"{compute.remote.host}: {compute.remote.traffic}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def comma_separated(text: str) -> list[str]:
    """The names in a list with commas between.

    Examples:
        >>> comma_separated("step0, main")
        ['step0', 'main']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


def save_charts(folder: Path, charts: dict[str, Any]) -> Sequence[Path]:
    """Write charts as NAME.svg, each whole or not at all; gives the paths."""
    from crosstime.report.charts.save_chart import save_chart

    return [path for name, chart in charts.items() for path in save_chart(chart, folder / name, ["svg"])]
