"""What verbs print and write besides their tables: charts, paths, and traffic with a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import altair as alt
    from rich.console import Console

    from crosstime.suites.compute import Compute
    from crosstime.suites.suite import Suite


def print_line(console: Console, text: str) -> None:
    """Print a text as it is: without markup or colours, and without line breaks, so that paths can be copied."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_paths(console: Console, paths: Sequence[Path]) -> None:
    """Print which files were written."""
    print_line(console, f"wrote {', '.join(map(str, paths))}")


def print_traffic(console: Console, compute: Compute) -> None:
    """Print how much was sent to a server and received from it, if there is one."""
    if compute.remote is not None:
        print_line(console, f"{compute.remote.host}: {compute.remote.traffic}")


def save_equal_weights(path: Path, suite: Suite) -> list[Path]:
    """Record next to a table, as NAME_weights.csv, which of its checkpoints have the same weights, if any do.

    Returns:
        The path that was written, or none.
    """
    from crosstime.machine.storage import write_table
    from crosstime.suites.weight_table import weight_table

    record = path.with_name(f"{path.stem}_weights.csv")
    if suite.allow_equal_weights and suite.equal_weights():
        write_table(record, weight_table(suite))
        return [record]
    # That of an earlier table would be wrong about this one
    record.unlink(missing_ok=True)
    return []


def save_charts(folder: Path, charts: Mapping[str, alt.TopLevelMixin]) -> list[Path]:
    """Write charts as NAME.svg, each atomically; returns the paths."""
    from crosstime.report.charts.save_chart import save_chart

    return [path for name, chart in charts.items() for path in save_chart(chart, folder / name, ["svg"])]
