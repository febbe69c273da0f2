"""One of two processes is killed in the middle of training: the other one stops with a message, a new start resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from small_run import PATIENCE, contents, half_written, home_of, together, wait_for

pytestmark = pytest.mark.slow


def started_at(runs: Path) -> dict[str, str]:
    """When each stage of the run was started."""
    manifest = json.loads((runs / "small" / "manifest.json").read_text())
    return {name: entry["started"] for name, entry in manifest["stages"].items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return home_of(tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="module")
def uninterrupted(home: Path, forks: BaseContext) -> dict[str, object]:
    """Results of two processes that are not interrupted."""
    for process in together(forks, home, home / "uninterrupted", 2):
        process.join(PATIENCE)
        assert process.exitcode == 0
    return contents(home / "uninterrupted" / "small")


@pytest.mark.parametrize("victim", [0, 1])
def test_the_other_process_says_that_one_is_gone_and_a_new_start_resumes(
    home: Path, uninterrupted: dict[str, object], forks: BaseContext, victim: int
):
    # Kill one process when both have paused after the first saved state, and let the other one continue.
    runs, pause = home / f"without-{victim}", home / f"pause-{victim}"
    pause.mkdir()
    processes = together(forks, home, runs, 2, pause=str(pause / "release"))
    wait_for(lambda: len(list(pause.glob("paused-*"))) == 2)
    assert list((runs / "small" / "partial").glob("train-*/state.safetensors"))
    os.kill(processes[victim].pid, signal.SIGKILL)
    processes[victim].join(PATIENCE)
    (pause / "release").touch()

    # It stops with one sentence.
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [[-9, 2], [2, -9]][victim]
    output = (home / f"said-{1 - victim}").read_text()
    (message,) = [line for line in output.splitlines() if line.startswith("crosstime:")]
    assert f"process {1 - victim} of 2 stops, because another process was killed or failed" in message
    assert "the same command resumes from there" in message
    assert "Traceback" not in output
    finished = started_at(runs)
    assert list(finished) == ["suite", "select"]

    # The same command resumes.
    for process in together(forks, home, runs, 2):
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert started_at(runs).items() > finished.items()

    # Of the twelve steps, lost ones are not logged twice, and saved ones are not taken again.
    steps = [json.loads(line)["step"] for line in (runs / "small" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(12))
    assert contents(runs / "small") == uninterrupted
    assert half_written(runs) == []


@pytest.mark.long
def test_torchrun_ends_with_an_error_and_resumes_when_it_is_started_again(home: Path, uninterrupted: dict[str, object]):
    runs, pause = home / "torchrun", home / "pause-torchrun"
    pause.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}

    def start(*arguments: str) -> subprocess.Popen:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
        program = [str(Path(__file__).parents[1] / "small_run.py"), str(home / "small.toml"), str(runs), str(home)]
        command = [*torchrun, *program, *arguments]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

    # Kill one process when both have paused after the first saved state.
    first = start(str(pause / "release"))
    wait_for(lambda: first.poll() is not None or len(list(pause.glob("paused-*"))) == 2)
    os.kill(int((home / "pid-1").read_text()), signal.SIGKILL)
    _, errors = first.communicate(timeout=PATIENCE)
    assert first.returncode not in (0, None), errors
    assert list(started_at(runs)) == ["suite", "select"]

    # The same command resumes.
    second = start()
    _, errors = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, errors
    assert contents(runs / "small") == uninterrupted
