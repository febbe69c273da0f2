"""The registry of task families, built-in and third-party, which are found through one entry-point group.

A family is one class, and its interface is `TaskFamily`. A package offers a family with

    [project.entry-points."crosstime.tasks"]
    colours = "my_package.colours:Colours"

in its pyproject.toml; a program or notebook registers one with ``tasks.register(Colours())``.
"""

from __future__ import annotations

import warnings
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

from tasks.errors import EmptyTaskError, TaskError, UnknownTaskError
from tasks.joins import warn_of_doubled_blanks
from tasks.task import Task
from user_input.home import expanded
from user_input.nearest import nearest

GROUP = "crosstime.tasks"

AnyTask = TypeVar("AnyTask")
"""A task in a form that is not its name: pairs, tokens, or what another package makes of them."""


@runtime_checkable
class TaskFamily(Protocol):
    """The interface of a plug-in: attributes that describe a family of tasks, and one method that loads a task.

    Attributes:
        name: The part of a task's name before the first slash, and the name of the entry point.
        pattern: The form of its task names, e.g. ``"blimp/<paradigm>"``.
        description: One line for the listing.
        source: Where the data come from if no path is given.
        languages: ISO codes, or a description of what decides the language.
        has_patch: Whether its pairs have patch prompts.
        path_help: What `path` may be.

    The listing also shows two optional attributes: `pairs`, the number of pairs in a word or two; and `variants`, the
    names of its tasks without the name of the family, by kind: ``{"selections": ("small", "all")}``.

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
        """Read a task.

        Args:
            rest: The part of the task's name after the first slash.
            path: Where the data are; None reads them from the family's source.

        Returns:
            The task with all its pairs; the caller samples them.

        Raises:
            UnknownTaskError: There is no such task.
            DataError: The data are missing or cannot be read.
        """
        ...


_registered: dict[str, TaskFamily] = {}
_loaded: dict[str, TaskFamily] = {}


def register(family: Any, *, replace: bool = False) -> None:
    """Add a family of tasks to this process.

    Args:
        family: An object with the interface of `TaskFamily`.
        replace: Hide a family of the same name.

    Raises:
        TaskError: The family lacks an attribute, its name contains a slash, or the name is taken and `replace` is
            false.
    """
    problem = _problem(family)
    if problem:
        raise TaskError(f"this is no family of tasks: {problem}")
    if not replace and family.name in names():
        raise TaskError(f"a family of tasks named {family.name!r} exists already: pass replace=True to hide it")
    _registered[family.name] = family


def names() -> tuple[str, ...]:
    """The names of all families, sorted; plug-ins are listed but not imported.

    Examples:
        >>> "blimp" in names()
        True
    """
    return tuple(sorted({*_registered, *_entry_points()}))


def describe() -> tuple[TaskFamily, ...]:
    """Every family that can be imported, in the order of their names; a listing shows their attributes.

    A plug-in that cannot be imported is named in a warning and left out.

    Examples:
        >>> [family.pattern for family in describe() if family.name == "blimp"]
        ['blimp/<paradigm>']
    """
    families = []
    for name in names():
        try:
            families.append(_family(name))
        except UnknownTaskError as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)
    return tuple(families)


def load(name: str, path: str | Path | None = None, limit: int | None = None, seed: int = 0) -> Task:
    """Read a task by name, from a local path or from the source of its family.

    Args:
        name: Name of the family and, after a slash, of the task in the family, e.g.
            ``"blimp/determiner_noun_agreement_1"``, ``"clams/fr/simple_agrmt"``, ``"multiblimp/hin/SV-G"``,
            ``"pairs/nounpp_test"``. ``"pairs/mine=data/mine.jsonl"`` names the task and its path in one.
        path: A folder with the data of several families, the folder of this family, or the file. None reads the data
            from the source of the family, usually the Hugging Face Hub.
        limit: Largest number of pairs; more are sampled at random, and keep their order.
        seed: Seed of the sample.

    Raises:
        UnknownTaskError: There is no such family or task; the message names the nearest ones.
        DataError: The data are missing, or a line of them cannot be read.
        EmptyTaskError: The source has no pairs.
        TaskError: `limit` is below 1.

    Examples:
        >>> load("agreement/simple", limit=2, seed=1).pairs[0].labels["attractor"]
        'none'
    """
    # Find the family
    whole, (name, equals, own_path) = name, name.partition("=")
    if equals and not own_path:
        raise UnknownTaskError(f"task {whole!r} has no path after its '='")
    path = own_path or path
    family_name, _, rest = name.partition("/")
    family = _family(family_name)
    if not rest:
        raise UnknownTaskError(f"task {name!r} is not complete: its name has the form {family.pattern}")

    # Read the task
    task = family.load(rest, None if path is None else expanded(path))
    if not task.pairs:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in task.skipped.items())
        raise EmptyTaskError(f"{task.name}: {task.source} holds no pair" + (f" ({reasons})" if reasons else ""))
    warn_of_doubled_blanks(task.name, task.pairs)
    return task.sample(limit, seed)


@overload
def as_task(task: str) -> Task: ...
@overload
def as_task(task: AnyTask) -> AnyTask: ...
def as_task(task: object) -> object:
    """The task itself, in whatever form it is given, or the one of a name, read from the source of its family.

    Raises:
        UnknownTaskError: There is no task of the name; the message names the nearest ones.
        DataError: Its data are missing; `load` reads them from a path.

    Examples:
        >>> as_task("agreement/simple").name
        'agreement/simple'
    """
    return load(task) if isinstance(task, str) else task


def _family(name: str) -> TaskFamily:
    """The family of that name, registered or of an installed plug-in.

    Raises:
        UnknownTaskError: There is none, or it cannot be used.
    """
    # Look among the families that are in memory
    if name in _registered:
        return _registered[name]
    if name in _loaded:
        return _loaded[name]

    # Import the plug-in
    plug_ins = _entry_points()
    if name not in plug_ins:
        hint = "" if plug_ins else " (no plug-in is installed: install the package again)"
        raise UnknownTaskError(f"there is no task family {name!r}{hint}: {nearest(name, names())}")
    entry = plug_ins[name]
    try:
        family = entry.load()()
    except Exception as error:  # a plug-in is third-party code and may raise anything
        raise UnknownTaskError(
            f"task plug-in {name!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error

    # Check it
    problem = _problem(family)
    if problem is None and family.name != name:
        problem = f"its name is {family.name!r}"
    if problem:
        raise UnknownTaskError(f"task plug-in {name!r} ({entry.value}) cannot be used: {problem}")
    _loaded[name] = family
    return family


def _entry_points() -> dict[str, EntryPoint]:
    """Entry points by name; if two packages offer the same name, a built-in family takes precedence."""
    by_name: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: not entry.value.startswith("tasks.")):
        by_name.setdefault(entry.name, entry)
    return by_name


def _problem(family: object) -> str | None:
    """Why an object cannot serve as a family, or None."""
    needed = ("name", "pattern", "description", "source", "languages", "has_patch", "path_help", "load")
    missing = [attribute for attribute in needed if not hasattr(family, attribute)]
    if missing:
        return f"{type(family).__name__} has no {', '.join(missing)}"
    name = getattr(family, "name", None)
    if not isinstance(name, str) or not name or "/" in name:
        return f"its name must be a word without a slash, not {name!r}"
    return None
