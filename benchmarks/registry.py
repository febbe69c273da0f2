"""The benchmarks: the modules of `benchmarks.cases`."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from benchmarks import cases
from crosstime.errors import CrosstimeError
from user_input.nearest import nearest


def names() -> tuple[str, ...]:
    """Return the names of all benchmarks, sorted.

    Examples:
        >>> names()[:2]
        ('ablation', 'accuracy')
    """
    return tuple(sorted(module.name for module in pkgutil.iter_modules(cases.__path__)))


def load(name: str) -> ModuleType:
    """Return the module of a benchmark, which has a function ``benchmark(quick, device) -> Result``.

    Hyphens stand for underscores, as in names of options.

    Raises:
        CrosstimeError: when there is no such benchmark; the message suggests the nearest name.
    """
    module = name.replace("-", "_")
    if module not in names():
        raise CrosstimeError(f"there is no benchmark {name!r}: {nearest(module, names(), most=len(names()))}")
    return importlib.import_module(f"{cases.__name__}.{module}")
