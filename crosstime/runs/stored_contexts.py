"""The prompts and texts on which features fire, in a JSON file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crosstime.errors import ReportError, RunError
from crosstime.machine.storage import read_json, write_json
from crosstime.report.page.context import Context


def write_contexts(path: Path, contexts: Mapping[int, Sequence[Context]]) -> None:
    """Write the contexts of each feature; NaN becomes null."""
    write_json(path, {str(feature): list(map(asdict, items)) for feature, items in contexts.items()})


def read_contexts(path: Path, *, advice: str) -> dict[int, list[Context]]:
    """Read what `write_contexts` wrote.

    Args:
        path: the file.
        advice: what to do about a damaged file, for the error.

    Raises:
        RunError: the file is missing or damaged.
    """
    stored = read_json(path)
    if not isinstance(stored, dict):
        raise RunError(f"{path} does not hold the contexts of features; {advice}")
    try:
        return {int(feature): list(map(_context, items)) for feature, items in stored.items()}
    except (AttributeError, KeyError, TypeError, ValueError, ReportError) as error:
        raise RunError(f"{path} does not hold the contexts of features; {advice}") from error


def _context(stored: dict[str, Any]) -> Context:
    """A context from its entry in the file, where NaN is null."""
    numbers = {name: _numbers(values) for name, values in stored["effects"].items()}
    lists = {
        "tokens": tuple(stored["tokens"]),
        "activations": _numbers(stored["activations"]),
        "effects": numbers,
    }
    return Context(**(stored | lists))


def _numbers(values: list[float | int | None]) -> tuple[float | int, ...]:
    return tuple(math.nan if value is None else value for value in values)
