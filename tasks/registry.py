"""Which tasks there are: built-in and third-party families, found through one entry-point group.

A family is one class and the whole plug-in surface is `TaskFamily`. A package offers its own with

    [project.entry-points."crosstime.tasks"]
    colours = "my_package.colours:Colours"

in its pyproject.toml, and a program or notebook with ``tasks.register(Colours())``.
"""

from __future__ import annotations

import warnings
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tasks.errors import EmptyTaskError, TaskError, UnknownTaskError
from tasks.task import Task
from user_input.nearest import nearest

GROUP = "crosstime.tasks"


@runtime_checkable
class TaskFamily(Protocol):
    """What a plug-in must have: six attributes that describe it and one method that loads a task.

    Attributes:
        name: The part of a task's name before the first slash, and the entry point's name.
        pattern: How its task names are built, e.g. ``"blimp/<paradigm>"``.
        description: One line for the listing.
        source: Where the data come from when no path is given.
        languages: ISO codes, or a word for what decides.
        has_patch: Whether its pairs come with patch prompts.
        path_help: What `path` may be.

    Two attributes more are shown by the listing where a family has them: `pairs`, how many there are, in a word or
    two; and `variants`, the names of its tasks without the family's own, by kind: ``{"selections": ("small", "all")}``.

    Examples:
        >>> class Colours:
        ...     name = "colours"
        ...     pattern = "colours/<anything>"
        ...     description = "one pair about the sky"
        ...     source = "by hand"
        ...     languages = ("en",)
        ...     has_patch = False
        ...     path_help = "not used"
        ...
        ...     def load(self, rest, path):
        ...         pair = MinimalPair("the sky is blue", "the sky is green")
        ...         return Task(f"colours/{rest}", "en", "by hand", (pair,))
    """

    name: str
    pattern: str
    description: str
    source: str
    languages: tuple[str, ...]
    has_patch: bool
    path_help: str

    def load(self, rest: str, path: Path | None) -> Task:
        """Read the task named by `rest`, the part of its name after the first slash.

        `path` exists or is None; then the data come from the family's own source. All pairs are
        returned: sampling is done by the caller. Raises `UnknownTaskError` or `DataError`.
        """
        ...


_registered: dict[str, TaskFamily] = {}
_loaded: dict[str, TaskFamily] = {}


def register(family: Any, *, replace: bool = False) -> None:
    """Add a family of tasks to this process: an object with all that `TaskFamily` lists.

    Raises:
        TaskError: Something is missing from the family, its name has a slash in it, or the name is
            taken and `replace` is false.
    """
    problem = _problem(family)
    if problem:
        raise TaskError(f"this is no family of tasks: {problem}")
    if not replace and family.name in names():
        raise TaskError(f"a family of tasks named {family.name!r} exists already: pass replace=True to hide it")
    _registered[family.name] = family


def names() -> tuple[str, ...]:
    """The names of all families, sorted; plug-ins are found but not imported.

    Examples:
        >>> "blimp" in names()
        True
    """
    return tuple(sorted({*_registered, *_entry_points()}))


def describe() -> tuple[TaskFamily, ...]:
    """Every family that can be imported, by name: its attributes are what a listing shows.

    A plug-in that cannot be imported is named in a warning and left out.

    Examples:
        >>> [family.pattern for family in describe() if family.name == "blimp"]
        ['blimp/<paradigm>']
    """
    found = []
    for name in names():
        try:
            found.append(_family(name))
        except UnknownTaskError as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)
    return tuple(found)


def load(name: str, path: str | Path | None = None, limit: int | None = None, seed: int = 0) -> Task:
    """Read a task by name, from a local path or from the family's own source.

    Args:
        name: Family and what the family asks for, e.g. ``"blimp/determiner_noun_agreement_1"``,
            ``"clams/fr/simple_agrmt"``, ``"multiblimp/hin/SV-G"``, ``"pairs/nounpp_test"``.
        path: A folder with the data of several families, the family's own folder, or the file.
            Without it the data come from the family's own source, mostly the Hugging Face Hub.
        limit: Keep a random sample of at most so many pairs, in their order.
        seed: Decides the sample.

    Raises:
        UnknownTaskError: No such family or variant; the message names the nearest ones.
        DataError: The data are missing or a line of them cannot be read.
        EmptyTaskError: The source holds no pair.
        TaskError: `limit` is below 1.

    Examples:
        >>> load("agreement/simple", limit=2, seed=1).pairs[0].labels["attractor"]
        'none'
    """
    kind, _, rest = name.partition("/")
    family = _family(kind)
    if not rest:
        raise UnknownTaskError(f"task {name!r} is not complete: its name has the form {family.pattern}")
    place = None if path is None else Path(path).expanduser()
    task = family.load(rest, place)
    if not task.pairs:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in task.skipped.items())
        raise EmptyTaskError(f"{task.name}: {task.source} holds no pair" + (f" ({reasons})" if reasons else ""))
    return task.sample(limit, seed)


def _family(name: str) -> TaskFamily:
    if name in _registered:
        return _registered[name]
    if name in _loaded:
        return _loaded[name]
    found = _entry_points()
    if name not in found:
        hint = "" if found else " (no plug-in is installed: install the package again)"
        raise UnknownTaskError(f"there is no task family {name!r}{hint}: {nearest(name, names())}")
    entry = found[name]
    try:
        family = entry.load()()
    except Exception as error:  # a plug-in is foreign code: whatever it raises, it is named and left out
        raise UnknownTaskError(
            f"task plug-in {name!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    problem = _problem(family)
    if problem is None and family.name != name:
        problem = f"its name is {family.name!r}"
    if problem:
        raise UnknownTaskError(f"task plug-in {name!r} ({entry.value}) cannot be used: {problem}")
    _loaded[name] = family
    return family


def _entry_points() -> dict[str, EntryPoint]:
    """Entry points by name; where two packages offer one name, our own comes first."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: not entry.value.startswith("tasks.")):
        found.setdefault(entry.name, entry)
    return found


def _problem(family: Any) -> str | None:
    needed = ("name", "pattern", "description", "source", "languages", "has_patch", "path_help", "load")
    missing = [attribute for attribute in needed if not hasattr(family, attribute)]
    if missing:
        return f"{type(family).__name__} has no {', '.join(missing)}"
    if not isinstance(family.name, str) or not family.name or "/" in family.name:
        return f"its name must be a word without a slash, not {family.name!r}"
    return None
