"""The command line of the benchmarks: ``python -m benchmarks [NAME ...] [--quick] [--json DIR]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import registry
from crosstime.errors import USER_ERRORS, CrosstimeError

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Benchmarks to run; all by default.")]
Quick = Annotated[bool, typer.Option("--quick", help="Use smaller sizes and fewer runs; takes less than a minute.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="DIR", help="Also write DIR/NAME-cpu.json (or -gpu).")]
Profile = Annotated[bool, typer.Option("--profile", help="Print the most expensive operators instead.")]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def benchmarks(names: Names = None, quick: Quick = False, json: Json = None, profile: Profile = False) -> None:
    """Measure speed and memory, compared with naive implementations of the same calculations."""
    modules = {name: registry.load(name) for name in dict.fromkeys(names or registry.names())}
    if profile:
        for name, module in modules.items():
            if names and not hasattr(module, "profile"):
                raise CrosstimeError(f"benchmark {name!r} has no profile; only attribution has one.")

    import torch
    from rich.console import Console
    from transformers.utils import logging

    logging.disable_progress_bar()
    # A pipe has no width, and rich would assume 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 140)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for module in modules.values():
        if profile:
            if hasattr(module, "profile"):
                print(module.profile(quick, device))
            continue
        result = module.benchmark(quick, device)
        if quick:
            result = result.without_targets()
        console.print(result.table())
        if json is not None:
            console.print(f"wrote {result.write(json)}\n")


if __name__ == "__main__":
    try:
        app(prog_name="python -m benchmarks")
    except USER_ERRORS as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(2)
