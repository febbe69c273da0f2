"""``~`` in the paths of the command line: a shell leaves it as it is in ``--out=~/results``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from user_input.home import expanded

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def with_home(verb: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The same verb, which is called with the user's home folder in place of ``~`` in each of its paths.

    Examples:
        >>> with_home(lambda folder: folder)(Path("~/runs")) == Path.home() / "runs"
        True
    """

    @wraps(verb)
    def at_home(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return verb(*map(_expanded, args), **{name: _expanded(value) for name, value in kwargs.items()})  # type: ignore[arg-type]  # values keep their types

    return at_home


def _expanded(value: object) -> object:
    return expanded(value) if isinstance(value, Path) else value
