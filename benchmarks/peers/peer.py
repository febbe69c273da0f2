"""Our side of a comparison with another tool: the process of the tool, and the interleaved measurements."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from benchmarks.peers.turns import PRODUCTS, STEP
from benchmarks.result import Row
from benchmarks.timing import medians
from crosstime.errors import CrosstimeError

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parents[1] / ".venv-peers"
MISSING = "not installed: make bench-peers"


def environment() -> Path | None:
    """Return the Python of the environment of the other tools; None if it is not installed.

    Examples:
        >>> environment() is None or environment().name.startswith("python")
        True
    """
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    return python if python.is_file() and (ENVIRONMENT / ".made").is_file() else None


class Peer:
    """A process of another tool, which takes one step of its training loop on request.

    Between requests it waits for input and uses no processor time.

    Args:
        python: the Python of the tool's environment.
        script: a script next to this file, which feeds the tool's loop with `turns.Turns`.
        sizes: the sizes and options that the script needs.

    Attributes:
        versions: versions of the tool and of its torch, and its number of threads.

    Raises:
        CrosstimeError: when the process has ended; the message contains its last line of output.

    Examples:
        >>> with Peer(environment(), "saelens_steps.py", sizes) as peer:  # doctest: +SKIP
        ...     peer.step()
        0.41
    """

    def __init__(self, python: Path, script: str, sizes: Mapping[str, Any]) -> None:
        self.script = script
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # No downloads, no reporting, and the same number of threads in both processes
        settings = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "OMP_NUM_THREADS": str(torch.get_num_threads())}
        self._process = subprocess.Popen(
            [python, HERE / script, json.dumps(dict(sizes))],
            env=os.environ | settings,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.versions = self._read_answer()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        self._errors.close()

    def step(self) -> float:
        """Take one training step, and return its time in seconds as measured by the tool's process."""
        return self.request(STEP)["seconds"]

    def products(self) -> float:
        """Run bare products with the same FLOPs in the tool's process, and return their time in seconds."""
        return self.request(PRODUCTS)["seconds"]

    def request(self, command: str) -> dict[str, Any]:
        """Send a command to the script, and return its answer: the time in seconds, and whatever else it sends."""
        try:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._read_answer()

    def _read_answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["nothing was written"]
        raise CrosstimeError(f"{self.script} ended with code {code}: {lines[-1]}")


def compare(
    peer: Peer, case: str, name: str, ours: Callable[[], object], bare: Callable[[], object], runs: int
) -> list[Row]:
    """Compare our step with that of another tool: in seconds, and relative to bare products in the same process.

    The four calls are interleaved, so that a drift of the machine affects all of them equally. The relative times are
    also independent of differences between the two installations of torch.
    """
    calls = {"ours": ours, "theirs": peer.step, "bare": bare, "their bare": peer.products}
    times = medians(calls, runs)
    share, theirs = times["bare"] / times["ours"], times["their bare"] / times["theirs"]
    return [
        Row.less(case, "seconds a step", times["ours"], times["theirs"], name, target=1.0),
        Row.more(case, "share of the rate of bare products", share, theirs, name, target=1.0),
    ]


def install(arguments: list[str]) -> None:
    """Create the environment unless it is complete: ``python -m benchmarks.peers.peer [PIP OPTION ...]``."""
    if environment() is not None:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
    pip = [ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "--quiet", *arguments]
    subprocess.run([*pip, "-r", HERE / "requirements.txt"], check=True)
    (ENVIRONMENT / ".made").touch()


if __name__ == "__main__":
    install(sys.argv[1:])
