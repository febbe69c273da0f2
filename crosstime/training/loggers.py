"""Where the numbers of a training go while it runs: JSON Lines, and what else is asked for."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol, TextIO, runtime_checkable

from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.storage import atomic_path
from user_input.nearest import nearest
from user_input.parse_json import parse_json

FILE = "metrics.jsonl"
Numbers = Mapping[str, int | float]


@runtime_checkable
class Logger(Protocol):
    """Takes one row of numbers after the other; the key ``step`` is what they are drawn against."""

    def write(self, row: Numbers) -> None:
        """Take a row."""

    def close(self) -> None:
        """Take no more."""


class JsonLines:
    """One JSON object a line, on the disk as soon as it is written.

    Args:
        path: the file; its rows from step `start` on are dropped first, since a training that goes on there will
            write them again.
        start: the first step that will be written.

    The file is touched when the first row comes, so that a training that cannot begin leaves another's as it was.

    Raises:
        RunError: while writing: the file cannot be written.
    """

    def __init__(self, path: Path, start: int) -> None:
        self._path, self._start = path, start
        self._file: TextIO | None = None

    def write(self, row: Numbers) -> None:
        """See `Logger.write`."""
        try:
            if self._file is None:
                self._file = self._opened()
            self._file.write(json.dumps({name: _plain(value) for name, value in row.items()}) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """See `Logger.close`."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> TextIO:
        kept = [line for line in _lines(self._path) if _step(line) < self._start] if self._start else []
        with atomic_path(self._path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        return self._path.open("a", encoding="utf-8")


class TensorBoard:
    """Curves for TensorBoard, which is an extra: ``pip install 'crosstime[tensorboard]'``."""

    def __init__(self, folder: Path, start: int) -> None:
        self._writer = _extra("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder), purge_step=start)

    def write(self, row: Numbers) -> None:
        """See `Logger.write`."""
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """See `Logger.close`."""
        self._writer.close()


class WeightsAndBiases:
    """A run of wandb, which is an extra: ``pip install 'crosstime[wandb]'``.

    Nothing leaves the machine unless the environment says ``WANDB_MODE=online``.
    """

    def __init__(self, folder: Path, start: int) -> None:
        mode = os.environ.get("WANDB_MODE", "offline")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = _extra("wandb", "wandb").init(project="crosstime", dir=str(folder), mode=mode)

    def write(self, row: Numbers) -> None:
        """See `Logger.write`."""
        self._run.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))

    def close(self) -> None:
        """See `Logger.close`."""
        self._run.finish()


LOGGERS: dict[str, type[TensorBoard] | type[WeightsAndBiases]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}
"""What can be asked for beside JSON Lines."""


class Metrics:
    """All loggers of one training, as a context that closes them.

    Args:
        folder: ``metrics.jsonl`` is written there, and each other logger has a folder of its name; None: nowhere.
        loggers: names in `LOGGERS`.
        start: the step at which training begins or goes on.

    Raises:
        CrosscoderError: an unknown logger, one that is not installed, or loggers without a folder.

    Examples:
        >>> with Metrics(Path("runs/mine")) as metrics:  # doctest: +SKIP
        ...     metrics.write({"step": 0, "loss": 1.5})
    """

    def __init__(self, folder: str | Path | None, loggers: Sequence[str] = (), *, start: int = 0) -> None:
        for name in loggers:
            if name not in LOGGERS:
                raise CrosscoderError(f"There is no logger {name!r}: {nearest(name, LOGGERS)}")
        if folder is None:
            if loggers:
                raise CrosscoderError(f"Logging to {', '.join(loggers)} needs a folder for the metrics.")
            self._loggers: list[Logger] = []
            return
        self._loggers = [LOGGERS[name](Path(folder) / name, start) for name in loggers]
        self._loggers.append(JsonLines(Path(folder) / FILE, start))

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for logger in self._loggers:
            logger.close()

    def write(self, row: Numbers) -> None:
        """Give a row to every logger."""
        for logger in self._loggers:
            logger.write(row)


def _extra(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CrosscoderError(f"Logging to {extra} needs a package: pip install 'crosstime[{extra}]'.") from error


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _step(line: str) -> float:
    """A line's step; a line that a kill cut short counts as later than all."""
    try:
        return float(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _plain(value: Any) -> Any:
    """NaN and infinities have no form in JSON."""
    return value if not isinstance(value, float) or value - value == 0 else None
