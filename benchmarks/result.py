"""The result of a benchmark: comparisons of our numbers with others, as a table and as JSON."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from crosstime.machine.storage import write_json

PACKAGES = ("torch", "transformers", "nnsight", "crosstime")


@dataclass(frozen=True)
class Row:
    """One comparison. A ratio above 1 means that ours is better, whatever the metric.

    Attributes:
        case: what was run.
        metric: what was measured, with its unit.
        ours: our number.
        other: the number to compare with; None if there is none.
        other_name: what `other` is.
        ratio: by which factor ours is better; None without `other`, or for a division by zero.
        target: the required ratio, if any.
        met: whether the target is reached; None without a target.
    """

    case: str
    metric: str
    ours: float
    other: float | None = None
    other_name: str | None = None
    ratio: float | None = None
    target: float | None = None
    met: bool | None = None

    @classmethod
    def less(
        cls, case: str, metric: str, ours: float, other: float, other_name: str, target: float | None = None
    ) -> Row:
        """Compare numbers of which the smaller is the better.

        Examples:
            >>> Row.less("effects", "seconds", 2.0, 8.0, "naive", target=3).met
            True
        """
        return cls._compared(case, metric, ours, other, other_name, other / ours if ours else None, target)

    @classmethod
    def more(
        cls, case: str, metric: str, ours: float, other: float, other_name: str, target: float | None = None
    ) -> Row:
        """Compare numbers of which the larger is the better."""
        return cls._compared(case, metric, ours, other, other_name, ours / other if other else None, target)

    @classmethod
    def within(cls, case: str, metric: str, ours: float, limit: float) -> Row:
        """Compare a number with an upper bound."""
        return cls.less(case, metric, ours, limit, "limit", target=1.0)

    @classmethod
    def alone(cls, case: str, metric: str, ours: float) -> Row:
        """Record a number without a comparison."""
        return cls(case, metric, ours)

    @classmethod
    def _compared(
        cls, case: str, metric: str, ours: float, other: float, name: str, ratio: float | None, target: float | None
    ) -> Row:
        # The ratio is missing only if the better number is zero, and then it meets any target
        met = None if target is None else ratio is None or ratio >= target
        return cls(case, metric, ours, other, name, ratio, target, met)


@dataclass(frozen=True)
class Result:
    """The rows of one benchmark, with the settings under which they were measured.

    Attributes:
        benchmark: name of the benchmark.
        device: ``cpu`` or ``cuda``.
        sizes: sizes of the model and the data, number of timed runs, how memory was measured.
        rows: the comparisons.
        versions: commit of the code, date, versions of Python and the relevant packages, the machine and its number of
            threads.
    """

    benchmark: str
    device: str
    sizes: dict[str, Any]
    rows: tuple[Row, ...]
    versions: dict[str, Any] = field(default_factory=lambda: versions())

    @property
    def file_name(self) -> str:
        """File name of the result: ``NAME-cpu.json`` or ``NAME-gpu.json``."""
        return f"{self.benchmark}-{'cpu' if self.device == 'cpu' else 'gpu'}.json"

    def without_targets(self) -> Result:
        """Return the result without targets of speed and memory, which are set for the full sizes only."""
        rows = tuple(row if row.other_name == "limit" else replace(row, target=None, met=None) for row in self.rows)
        return replace(self, rows=rows)

    def write(self, folder: Path) -> Path:
        """Write the result to a folder atomically, and return its path."""
        path = folder / self.file_name
        write_json(path, asdict(self))
        return path

    def table(self) -> Table:
        """Return the result as a table for a terminal."""
        table = Table(title=f"{self.benchmark} on {self.device}", title_justify="left", box=box.SIMPLE_HEAD)
        for heading in ("case", "metric"):
            table.add_column(heading)
        for heading in ("ours", "other", "other is", "ratio", "target", ""):
            table.add_column(heading, justify="right")
        for row in self.rows:
            met = {None: "", True: "met", False: "[red]missed[/red]"}[row.met]
            numbers = (short(number) for number in (row.ours, row.other))
            ratio, target = short(row.ratio), short(row.target)
            table.add_row(row.case, row.metric, *numbers, row.other_name or "", ratio, target, met)
        table.caption = ", ".join(f"{name} {value}" for name, value in self.sizes.items())
        table.caption_justify = "left"
        return table


def versions() -> dict[str, Any]:
    """Return what the numbers depend on apart from the code.

    Examples:
        >>> sorted(versions())[:2]
        ['crosstime', 'cuda_device']
    """
    packages = {package: version(package) for package in PACKAGES}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return packages | {
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "cuda_device": gpu,
    }


def commit() -> str | None:
    """Return the commit of the code, with a plus sign if files differ from it; None outside a repository.

    Results are written while a series of benchmarks runs, so that changes of results do not count.
    """
    try:
        revision = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results", ":!docs")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{revision}+" if changed else revision


def processor() -> str:
    """Return the name of the processor and the number of its cores that this process may use.

    Examples:
        >>> processor().endswith("cores") or processor().endswith("core")
        True
    """
    names = re.findall(r"^model name\s*: (.+)$", _text(Path("/proc/cpuinfo")), re.M)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} core{'s'[: cores != 1]}"


def _git(*arguments: str) -> str:
    """Return what git prints about the repository of this file."""
    command = ["git", "-C", str(Path(__file__).resolve().parents[1]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def short(number: float | None) -> str:
    """Format a number for a table: with commas and no decimals from 1000, otherwise three digits; empty for None.

    Examples:
        >>> short(1234.5), short(0.012345), short(None)
        ('1,234', '0.0123', '')
    """
    return "" if number is None else f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
