"""Causal experiments on language models across their pretraining.

The verbs, in the order of an experiment: open a `Suite` of checkpoints, `tasks.load` a task, see the
`accuracy`, `train` a crosscoder, `evaluate` it, `attribute` the task to its features, `ablate` them; or
`run` a recipe that does all of it. Everything else lies in the rooms: `crosstime.evolution`, `crosstime.features`, ...

The public names are those of ``__init__.pyi``, in that order. They load when they are first used, so that importing is
quick.

Example:
    >>> import crosstime as ct
    >>> suite = ct.Suite.open("suites/tiny-pythia")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _refuse_shadowed() -> None:
    """Make sure that Python finds our own `tasks` and `interventions`, whose names are common."""
    root = Path(__file__).resolve().parent.parent
    for name in ("tasks", "interventions", "user_input"):
        spec = find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin != root / name / "__init__.py":
            raise ImportError(
                f"crosstime needs its own package {name!r} at {root / name}, but Python finds "
                f"{origin or 'none'}, which hides it; rename that file, or run from another folder."
            )


_refuse_shadowed()
