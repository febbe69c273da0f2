"""Where the metrics of a training run are written while it runs: JSON Lines, TensorBoard, Weights & Biases."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Protocol, TextIO, TypeAlias, runtime_checkable

from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.storage import atomic_path
from user_input.nearest import nearest
from user_input.parse_json import parse_json

FILE = "metrics.jsonl"
Row: TypeAlias = Mapping[str, int | float]


@runtime_checkable
class Logger(Protocol):
    """Receives rows of metrics, whose key ``step`` is the x-axis of the others."""

    def write(self, row: Row) -> None:
        """Write one row."""

    def close(self) -> None:
        """Flush and close."""


class JsonLines:
    """Writes one JSON object per line, flushed after every row.

    The file is not touched before the first row, so that a training run that fails to start leaves an earlier run's
    file intact.

    Args:
        path: the file. Rows from step `start` on are dropped from it first, since a resumed run writes them again.
        start: the first step that will be written.

    Raises:
        RunError: while writing, if the file cannot be written.
    """

    def __init__(self, path: Path, start: int) -> None:
        self._path, self._start = path, start
        self._file: TextIO | None = None

    def write(self, row: Row) -> None:
        """See `Logger.write`."""
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write(json.dumps({name: _json_number(value) for name, value in row.items()}) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """See `Logger.close`."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> TextIO:
        earlier = [line for line in _lines(self._path) if _step(line) < self._start] if self._start else []
        with atomic_path(self._path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in earlier), encoding="utf-8")
        return self._path.open("a", encoding="utf-8")


class TensorBoard:
    """Writes TensorBoard scalars; needs the extra ``pip install 'crosstime[tensorboard]'``."""

    def __init__(self, folder: Path, start: int) -> None:
        module = _import_extra("torch.utils.tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(str(folder), purge_step=start)

    def write(self, row: Row) -> None:
        """See `Logger.write`."""
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """See `Logger.close`."""
        self._writer.close()


class WeightsAndBiases:
    """Logs to a wandb run; needs the extra ``pip install 'crosstime[wandb]'``.

    Runs offline unless the environment variable ``WANDB_MODE`` says ``online``.
    """

    def __init__(self, folder: Path, start: int) -> None:
        mode = os.environ.get("WANDB_MODE", "offline")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = _import_extra("wandb", "wandb").init(project="crosstime", dir=str(folder), mode=mode)

    def write(self, row: Row) -> None:
        """See `Logger.write`."""
        self._run.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))

    def close(self) -> None:
        """See `Logger.close`."""
        self._run.finish()


LOGGERS: dict[str, type[TensorBoard] | type[WeightsAndBiases]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}
"""Loggers that can be used in addition to JSON Lines, by name."""


@dataclass(frozen=True)
class Logging:
    """Where the metrics of a training run are written.

    Attributes:
        folder: folder of ``metrics.jsonl``, and of one subfolder for every other logger; None writes nothing.
        loggers: names of further loggers, ``tensorboard`` or ``wandb``; each needs the extra of its name.

    Raises:
        CrosscoderError: an unknown logger, or loggers without a folder.

    Examples:
        >>> Logging("runs/mine", ("tensorboard",)).loggers
        ('tensorboard',)
    """

    folder: str | Path | None = None
    loggers: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in self.loggers:
            if name not in LOGGERS:
                raise CrosscoderError(f"There is no logger {name!r}: {nearest(name, LOGGERS)}")
        if self.folder is None and self.loggers:
            raise CrosscoderError(f"Logging to {', '.join(self.loggers)} needs a folder for the metrics.")


def refuse_missing_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose package is not installed, before a training begins.

    Args:
        names: of `LOGGERS`.

    Raises:
        CrosscoderError: says how to install it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise CrosscoderError(_not_installed(name))


class MetricsWriter:
    """Context manager that writes rows of metrics to all loggers of a training run, and closes them at the end.

    Args:
        logging: the folder and the loggers.
        start: the step at which training starts or resumes.

    Raises:
        CrosscoderError: the package of a logger is not installed.

    Examples:
        >>> with MetricsWriter(Logging("runs/mine")) as metrics:  # doctest: +SKIP
        ...     metrics.write({"step": 0, "loss": 1.5})
    """

    def __init__(self, logging: Logging, *, start: int = 0) -> None:
        self._loggers: list[Logger] = []
        if logging.folder is not None:
            folder = Path(logging.folder)
            self._loggers += [LOGGERS[name](folder / name, start) for name in logging.loggers]
            self._loggers.append(JsonLines(folder / FILE, start))

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for logger in self._loggers:
            logger.close()

    def write(self, row: Row) -> None:
        """Write a row to every logger."""
        for logger in self._loggers:
            logger.write(row)


def _import_extra(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CrosscoderError(_not_installed(extra)) from error


def _not_installed(extra: str) -> str:
    """The sentence about a logger without its package, which has the name of its extra."""
    return f"Logging to {extra} needs a package: pip install 'crosstime[{extra}]'."


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _step(line: str) -> float:
    """The step of a line; infinity for a line that was truncated when the process was killed."""
    try:
        return float(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _json_number(value: int | float) -> int | float | None:
    """The number, or None for NaN and infinities, which JSON cannot express."""
    return value if not isinstance(value, float) or value - value == 0 else None
