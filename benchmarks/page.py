"""Render the committed results as a page of the documentation: ``python -m benchmarks.page > docs/benchmarks.md``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.registry import load, names
from benchmarks.result import short

RESULTS = Path(__file__).with_name("results")
HEAD = """# Benchmarks

`make bench` measures speed and memory, compared with naive implementations and with other tools. Runs are interleaved
in one process, and the results are written to `benchmarks/results`. This page is generated from them by
`python -m benchmarks.page`; a test keeps both in step. A ratio above 1 means that ours is better, whatever the metric.
The first table says at which commit and on what machine each figure was made; a plus sign after a commit means that the
code had changes. `python -m benchmarks NAME --quick` takes seconds; `--profile` shows
where the time is spent.
"""


def page(folder: Path = RESULTS) -> str:
    """Return the results in a folder as Markdown, with a section and a table for each.

    Examples:
        >>> page().startswith("# Benchmarks")
        True
    """
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return "\n".join([HEAD, _origins(results), *map(_section, results)]).rstrip() + "\n"


def _origins(results: list[dict[str, Any]]) -> str:
    """Return a table of where and when each result was made."""
    lines = ["| benchmark | commit | date | machine | threads | torch | targets met |", "|---|---|---|---|--:|---|---|"]
    for result in results:
        versions, met = result["versions"], [row["met"] for row in result["rows"] if row["met"] is not None]
        machine = versions["cuda_device"] or versions.get("processor") or versions["machine"]
        cells = [
            *(f"{result['benchmark']}, {result['device']}", versions.get("commit") or "before commits were recorded"),
            *(versions.get("date") or "", machine, str(versions["threads"]), versions["torch"]),
            f"{sum(met)} of {len(met)}" if met else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    missing = sorted(set(names()) - {result["benchmark"] for result in results})
    note = f"Not measured yet: {', '.join(missing)}." if missing else ""
    return "\n".join(["## Where the figures were made", "", *lines, "", *([note, ""] if note else [])])


def _section(result: dict[str, Any]) -> str:
    versions = result["versions"]
    machine = versions["cuda_device"] or f"{versions['machine']}, {versions['threads']} threads"
    sizes = ", ".join(f"{name} {value}" for name, value in result["sizes"].items())
    lines = [
        f"## {result['benchmark']}, on {'a CPU' if result['device'] == 'cpu' else 'a GPU'}",
        "",
        (load(result["benchmark"]).__doc__ or "").strip(),
        "",
        "| case | metric | ours | other | other is | ratio | target | |",
        "|---|---|--:|--:|---|--:|--:|---|",
        *(_line(row) for row in result["rows"]),
        "",
        f"{sizes}. torch {versions['torch']}, nnsight {versions['nnsight']}, {machine}.",
        "",
    ]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    met = {None: "", True: "met", False: "**missed**"}[row["met"]]
    ours, other, ratio, target = (short(row[name]) for name in ("ours", "other", "ratio", "target"))
    cells = [row["case"], row["metric"], ours, other, row["other_name"] or "", ratio, target, met]
    return f"| {' | '.join(cell.replace('|', ' ') for cell in cells)} |"


if __name__ == "__main__":
    print(page(), end="")
