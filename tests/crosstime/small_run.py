"""A recipe that takes seconds, and runs of it in processes of their own: for tests of what may happen to a run."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

import crosstime as ct
from crosstime.machine.tensors import read_tensors
from crosstime.runs.stages import attribute as attributing
from crosstime.runs.stages import report as reporting
from crosstime.training.trainer import Trainer
from tasks.agreement import sentences

Values = Mapping[str, object]
SECTIONS: dict[str, Values] = {
    "": {"name": "small", "seed": 3},
    "suite": {"source": "tiny"},
    "suite.tiny": {
        "d_model": 8, "n_layers": 2, "n_heads": 2, "vocab_size": 300, "sequence_length": 16, "batch_tokens": 64,
        "steps": 12, "warmup": 2, "lr": 1e-2, "checkpoints": [0, 12],
    },
    "compare": {"revisions": ["step0", "step12"], "site": "resid.0"},
    "corpus": {"source": "text.txt", "sequence_length": 12},
    "crosscoder": {"n_features": 16, "steps": 12, "batch_size": 32, "lr": 1e-2, "l1": 0.05, "save_every": 3},
    "effects": {"top": 1, "steps": 2, "resamples": 20},
    "evolve": {"text": False, "resamples": 10},
}  # fmt: skip
PATIENCE = 600
"""Seconds that a test waits for another process at most."""

PAUSE_AT = 4
"""Step before which training pauses: the first one after it has been saved (``save_every``)."""

TASKS: list[Values] = [{"name": "agreement/simple", "limit": 6}]


def recipe(changes: Mapping[str, Values] | None = None, tasks: Iterable[Values] = TASKS) -> str:
    """A recipe file: `SECTIONS` with some values changed, or left out where None; and tasks."""
    lines: list[str] = []

    def add(title: str, values: Values) -> None:
        # Texts, numbers, truth values and lists look alike in JSON and TOML.
        lines.extend([title, *(f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None)])

    for name, values in SECTIONS.items():
        add(f"[{name}]" if name else "", {**values, **(changes or {}).get(name, {})})
    for task in tasks:
        add("[[tasks]]", task)
    return "\n".join(lines)


def home_of(folder: Path, text: str | None = None, count: int = 300, name: str = "small.toml") -> Path:
    """A folder with a recipe and the text that it trains on."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(recipe() if text is None else text)
    (folder / "text.txt").write_text("\n".join(sentences(count, seed=1)))
    return folder


def contents(folder: Path) -> dict[str, object]:
    """Tables byte for byte, and tensors number for number: the order of a tensor file's metadata is not fixed."""
    results: dict[str, object] = {path.name: path.read_bytes() for path in sorted(folder.glob("*.csv"))}
    for name in ("crosscoder", "effects"):
        tensors, facts = read_tensors(folder / f"{name}.safetensors")
        results[name] = ({key: tensor.tolist() for key, tensor in tensors.items()}, facts)
    return results


def half_written(folder: Path) -> list[Path]:
    """Files that somebody was about to write."""
    return list(folder.rglob(".*"))


def short_page(report: object, folder: Path) -> None:
    """Stands in for the report, whose many charts take longer than all else."""
    (folder / "report.html").write_text("a page")


def finished_run(home: Path) -> Path:
    """Run the recipe of a home, with a short page in place of the report, and return the folder of the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "write_report", short_page)
        return ct.run(home / "small.toml", home / "runs").folder


def settle(
    rank: int = 0, size: int = 1, port: int = 0, block: int | None = None, pace: float = 0.0, pause: str | None = None
) -> None:
    """Make this process one of a run's: one thread, no charts, few prompts per block, a sleep before each step.

    With `pause`, training stops before step `PAUSE_AT` until there is a file of that name.
    """
    reporting.write_report = short_page
    torch.set_num_threads(1)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    if size > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if block is not None:
        attributing.BLOCK = block
    if pace:
        real = Trainer.update
        Trainer.update = lambda self, step, x: time.sleep(pace) or real(self, step, x)
    if pause is not None:
        pause_training(Path(pause))


def pause_training(release: Path) -> None:
    """Make training wait before step `PAUSE_AT` until the file `release` exists, so that a test can kill it there.

    A process that waits says so with a file ``paused-PID`` in the same folder.
    """
    update = Trainer.update

    def paused_update(self: Trainer, step: int, x: torch.Tensor) -> torch.Tensor:
        if step == PAUSE_AT:
            (release.parent / f"paused-{os.getpid()}").touch()
            wait_for(release.exists)
        return update(self, step, x)

    Trainer.update = paused_update


def wait_for(event: Callable[[], bool]) -> None:
    """Wait until an event has happened; it has ten minutes, far more than it needs on the busiest machine."""
    end = time.monotonic() + PATIENCE
    while not event():
        assert time.monotonic() < end, f"nothing happened within {PATIENCE} seconds"
        time.sleep(0.02)


def go(home: str, runs: str, **settings: float) -> None:
    """A whole run."""
    settle(**settings)
    ct.run(Path(home) / "small.toml", runs)


def command(arguments: list[str], output: str, **settings: float) -> None:
    """The command line, which ends the process; what it says goes to a file."""
    from crosstime.cli.main import main

    settle(**settings)
    with Path(output).open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = ["crosstime", *arguments]
    main()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def together(forks: BaseContext, home: Path, runs: Path, size: int, **settings: float) -> list[BaseProcess]:
    """Start the processes of one run, as torchrun would; each says what it has to say in a file said-RANK."""
    port = free_port()
    started = [
        forks.Process(
            target=command,
            args=(["run", str(home / "small.toml"), "--runs", str(runs)], str(home / f"said-{rank}")),
            kwargs={"rank": rank, "size": size, "port": port, **settings},
        )
        for rank in range(size)
    ]
    for process in started:
        process.start()
    return started


if __name__ == "__main__":
    # One process of torchrun: RECIPE RUNS FOLDER [FILE THAT ENDS THE PAUSE].
    settle(pause=sys.argv[4] if len(sys.argv) > 4 else None)
    (Path(sys.argv[3]) / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    sys.argv = ["crosstime", "run", sys.argv[1], "--runs", sys.argv[2]]
    from crosstime.cli.main import main

    main()
