"""Start-up of the command line and of imports: processor time and memory of a process of its own.

The limit holds for verbs that run no model and for mistakes in the arguments of any verb: none of them loads PyTorch.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.result import Result, Row
from crosstime.errors import CrosstimeError
from crosstime.machine.storage import write_json, write_table

LIMIT = 1.5
"""Seconds of processor time."""
MEASURED = """
import runpy, sys, time
try:
    if sys.argv[1] == "import":
        __import__(sys.argv[2])
    else:
        runpy.run_module("crosstime", run_name="__main__", alter_sys=True)
finally:
    with open("/proc/self/status") as status:
        peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    print("measured", time.process_time(), int(peak) / 1024, file=sys.stderr)
"""
"""Runs a verb or an import and prints what the process took.

`/proc` is read because the resource usage of a child begins with the size of its parent.
"""
VERBS = {
    "crosstime --version": ["--version"],
    "crosstime --help": ["--help"],
    "crosstime recipes": ["recipes"],
    "crosstime tasks": ["tasks"],
    "crosstime status": ["status", "run"],
    "crosstime select, with two charts": ["select", "-k", "2"],
    "a key of a recipe that is mistyped": ["run", "demo", "--set", "crosscoder.stepz=1"],
    "a kind of crosscoder that is mistyped": ["train", "suite", "--corpus", "text.txt", "--kind", "l2"],
    "a folder that is not there": ["evaluate", "./missing", "text.txt", "crosscoder.safetensors"],
    "a task that is mistyped": ["accuracy", "suite", "agreement/simpel"],
}
PYTORCH = "import torch"
IMPORTS = {name: name.split() for name in ("import crosstime", "import interventions", "import tasks", PYTORCH)}
TIME, MEMORY = "seconds of processor time", "resident MB"


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure every command and import, interleaved, each in a process of its own."""
    runs = 2 if quick else 7
    calls = VERBS | IMPORTS
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        usage = {name: [] for name in calls}
        for _ in range(runs):
            for name, arguments in calls.items():
                usage[name].append(seconds_and_megabytes(arguments, Path(folder)))
    seconds, memory = (
        {name: statistics.median(pair[i] for pair in pairs) for name, pairs in usage.items()} for i in (0, 1)
    )

    # Compare verbs and mistakes with the limit, and imports with that of PyTorch
    rows = []
    for name in calls:
        if name in VERBS:
            rows.append(Row.within(name, TIME, seconds[name], LIMIT))
            rows.append(Row.alone(name, MEMORY, memory[name]))
        elif name != PYTORCH:
            rows.append(Row.less(name, TIME, seconds[name], seconds[PYTORCH], PYTORCH))
            rows.append(Row.less(name, MEMORY, memory[name], memory[PYTORCH], PYTORCH))
    return Result("start_up", device.type, {"runs": runs, "memory": "largest resident size"}, tuple(rows))


def prepare(folder: Path) -> None:
    """Write what the commands read: a run that was not begun, a survey, a text, and a suite that is never opened."""
    columns: dict[str, Any] = {"revision": ["step0", "step64", "main"], "step": [0, 64, 512], "tokens": [0, 64, 512]}
    columns |= {"task": "agreement/simple", "n": 10, "accuracy": [0.5, 0.6, 0.9], "low": 0.0, "high": 1.0}
    write_table(folder / "survey" / "accuracy.csv", pd.DataFrame(columns | {"logit_difference": 0.0}))
    write_json(folder / "run" / "manifest.json", {"recipe": {"suite": {"source": "suite"}}, "stages": {}})
    write_json(folder / "suite" / "main" / "config.json", {})
    (folder / "text.txt").write_text("the cat sleeps\n", encoding="utf-8")
    (folder / "crosscoder.safetensors").touch()


def seconds_and_megabytes(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Return processor time in seconds and largest resident size in MB of a Python process with these arguments."""
    process = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if process.returncode not in (0, 1, 2) or "measured" not in process.stderr:
        raise CrosstimeError(f"{' '.join(arguments)} ended with code {process.returncode}: {process.stderr[-300:]}")
    seconds, megabytes = process.stderr.rpartition("measured ")[2].split()
    return float(seconds), float(megabytes)
