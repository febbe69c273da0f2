"""Our side of a comparison with another tool: the tool's process, and the rows that come of taking turns with it."""

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
    """Python of the peers' environment; None where it is not there.

    Example:
        >>> environment() is None or environment().name.startswith("python")
        True
    """
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    return python if python.is_file() and (ENVIRONMENT / ".made").is_file() else None


class Peer:
    """Another tool's process, which takes one step of its training loop whenever it is asked to.

    Between two questions it waits for input and takes no processor time.

    Args:
        python: of the tool's environment.
        script: beside this file; it feeds the tool's loop with `turns.Turns`.
        sizes: what the script builds.

    Attributes:
        told: the tool's version, and its torch's.

    Raises:
        CrosstimeError: the process ended; the sentence has the last line it wrote.

    Example:
        >>> with Peer(environment(), "saelens_steps.py", sizes) as peer:  # doctest: +SKIP
        ...     peer.step()
        0.41
    """

    def __init__(self, python: Path, script: str, sizes: Mapping[str, Any]) -> None:
        self.script = script
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # Nothing is fetched, nothing is reported, and both sides have the same number of threads.
        settings = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "OMP_NUM_THREADS": str(torch.get_num_threads())}
        self._process = subprocess.Popen(
            [python, HERE / script, json.dumps(dict(sizes))], env=os.environ | settings, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self.told = self._answer()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        self._errors.close()

    def step(self) -> float:
        """Seconds of one training step, by the tool's own clock."""
        return self._asked(STEP)

    def products(self) -> float:
        """Seconds of bare products of as many operations, in the tool's process."""
        return self._asked(PRODUCTS)

    def _asked(self, command: str) -> float:
        try:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()["seconds"]

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["nothing was written"]
        raise CrosstimeError(f"{self.script} ended with code {code}: {lines[-1]}")


def against(
    peer: Peer, case: str, name: str, ours: Callable[[], object], bare: Callable[[], object], runs: int
) -> list[Row]:
    """Rows of our step against a peer's: as they are, and each as a share of bare products in its own process.

    The four are run in turn, so that what slows the machine slows all of them; shares also leave out what one
    environment's torch does better than the other's.
    """
    ways = {"ours": ours, "theirs": peer.step, "bare": bare, "their bare": peer.products}
    times = medians(ways, runs)
    share, theirs = times["bare"] / times["ours"], times["their bare"] / times["theirs"]
    return [
        Row.less(case, "seconds a step", times["ours"], times["theirs"], name, target=1.0),
        Row.more(case, "share of the rate of bare products", share, theirs, name, target=1.0),
    ]


def install(arguments: list[str]) -> None:
    """Make the environment anew, if it is not whole: ``python -m benchmarks.peers.running [PIP OPTION ...]``."""
    if environment() is not None:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
    pip = [ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "--quiet", *arguments]
    subprocess.run([*pip, "-r", HERE / "requirements.txt"], check=True)
    (ENVIRONMENT / ".made").touch()


if __name__ == "__main__":
    install(sys.argv[1:])
