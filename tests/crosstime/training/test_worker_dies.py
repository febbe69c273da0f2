"""One of two processes is killed in the middle of training: the other says so and ends, and a new start goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from small_run import contents, half_written, home_of, together

pytestmark = pytest.mark.slow
PATIENCE = 120


def until(there: Callable[[], bool]) -> None:
    """Wait for something to come true."""
    end = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.02)


def training_has_begun(runs: Path) -> bool:
    """Whether the training has been saved once."""
    return bool(list((runs / "small" / "partial").glob("train-*/state.safetensors")))


def started_at(runs: Path) -> dict[str, str]:
    manifest = json.loads((runs / "small" / "manifest.json").read_text())
    return {name: entry["started"] for name, entry in manifest["stages"].items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return home_of(tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="module")
def whole(home: Path, forks: BaseContext) -> dict[str, object]:
    """What two processes find that nothing happens to."""
    for process in together(forks, home, home / "whole", 2):
        process.join(PATIENCE)
        assert process.exitcode == 0
    return contents(home / "whole" / "small")


@pytest.mark.parametrize("victim", [0, 1])
def test_the_other_process_says_that_one_is_gone_and_a_new_start_goes_on(
    home: Path, whole: dict[str, object], forks: BaseContext, victim: int
):
    runs = home / f"without-{victim}"
    both = together(forks, home, runs, 2, pace=0.3)
    until(lambda: training_has_begun(runs))
    os.kill(both[victim].pid, signal.SIGKILL)
    for process in both:
        process.join(PATIENCE)
    assert [process.exitcode for process in both] == [[-9, 2], [2, -9]][victim]
    said = (home / f"said-{1 - victim}").read_text()
    (sentence,) = [line for line in said.splitlines() if line.startswith("crosstime:")]
    assert f"process {1 - victim} of 2 stops, because another process was killed or failed" in sentence
    assert "the same command resumes from there" in sentence
    assert "Traceback" not in said
    finished = started_at(runs)
    assert list(finished) == ["suite", "select"]
    for process in together(forks, home, runs, 2):
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert started_at(runs).items() > finished.items()
    # Twelve steps, of which the lost ones were not counted twice, and the saved ones not taken again.
    steps = [json.loads(line)["step"] for line in (runs / "small" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(12))
    assert contents(runs / "small") == whole
    assert half_written(runs) == []


def test_torchrun_ends_with_an_error_and_goes_on_when_it_is_started_again(home: Path, whole: dict[str, object]):
    runs = home / "torchrun"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}

    def start(pace: float) -> subprocess.Popen:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
            str(Path(__file__).parents[1] / "small_run.py"), str(home / "small.toml"), str(runs), str(home), str(pace),
        ]  # fmt: skip
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

    first = start(0.5)
    until(lambda: first.poll() is not None or training_has_begun(runs))
    os.kill(int((home / "pid-1").read_text()), signal.SIGKILL)
    said = first.communicate(timeout=PATIENCE)[1]
    assert first.returncode not in (0, None), said
    assert list(started_at(runs)) == ["suite", "select"]
    second = start(0.0)
    said = second.communicate(timeout=PATIENCE)[1]
    assert second.returncode == 0, said
    assert contents(runs / "small") == whole
