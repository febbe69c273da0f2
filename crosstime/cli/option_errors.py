"""Errors about what was typed name the option or argument with which it was typed: ``--site``, ``SUITE``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import typer

from crosstime.errors import (
    USER_ERRORS,
    AnnotationError,
    CorpusError,
    CrosscoderError,
    EndpointError,
    RunError,
    StoreError,
    SuiteError,
    errors_at,
)
from interventions.errors import (
    ArchitectureError,
    CheckpointLoadError,
    FeatureError,
    MemoryBudgetError,
    RemoteError,
    SiteError,
)
from tasks.errors import TaskError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_SUBJECTS: tuple[tuple[type[Exception], tuple[str, ...]], ...] = (
    (SiteError, ("site",)),
    (FeatureError, ("features",)),
    (MemoryBudgetError, ("max_tokens",)),
    (RemoteError, ("remote",)),
    (ArchitectureError, ("suite",)),
    (CheckpointLoadError, ("suite",)),
    (TaskError, ("names", "name")),
    (CorpusError, ("text", "corpus")),
    (StoreError, ("store", "corpus")),
    (SuiteError, ("suite", "scales_from", "out")),
    (CrosscoderError, ("crosscoder", "crosscoders", "source")),
    (AnnotationError, ("annotations", "read", "tables")),
    (EndpointError, ("endpoint",)),
    (RunError, ("run", "folder", "tables")),
)
"""The parameters of verbs that each class of error is about, the likeliest first."""


@contextmanager
def errors_about(options: Mapping[str, str], otherwise: str | None = None, *, head: str = "") -> Iterator[None]:
    """Put an option before every sentence for the user that the block raises: that of the first word which has one.

    Args:
        options: options by the words for them in the sentences of the library, such as ``n_features``.
        otherwise: the option for sentences without any of the words; None leaves these as they are.
        head: a regular expression for the key of a recipe that the library puts before its sentences, which was not
            typed here and is left out.

    Examples:
        >>> with errors_about({"lr": "--lr", "steps": "--steps"}):
        ...     raise CrosscoderError("lr must be positive, not 0 for 10 steps.")
        Traceback (most recent call last):
        crosstime.errors.CrosscoderError: --lr: lr must be positive, not 0 for 10 steps.
    """
    try:
        yield
    except USER_ERRORS as error:
        # The longest of two words at one place, as a key in a sentence may be a part of another
        words = "|".join(map(re.escape, sorted(options, key=len, reverse=True)))
        first = re.search(rf"(?<![\w-])(?:{words})(?![\w-])", str(error)) if options else None
        place = otherwise if first is None else options[first.group()]
        if place is None:
            raise
        with errors_at(place):
            raise type(error)(re.sub(f"^(?:{head})", "", str(error))) from error


def with_option_names(verb: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The same verb, whose sentences for the user all name an option or argument of it.

    A sentence that names none is about what its class is about: that of a `SuiteError` about ``SUITE``.

    Examples:
        >>> from typing import Annotated
        >>> def similarity(suite: Annotated[str, typer.Argument(metavar="SUITE")]) -> None:
        ...     raise SuiteError("no revision 'step5'")
        >>> with_option_names(similarity)("models")
        Traceback (most recent call last):
        crosstime.errors.SuiteError: SUITE: no revision 'step5'
    """

    @wraps(verb)
    def named(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return verb(*args, **kwargs)
        except USER_ERRORS as error:
            signature = inspect.signature(verb, eval_str=True)
            values = signature.bind(*args, **kwargs).arguments
            places = {name: _place(parameter) for name, parameter in signature.parameters.items()}
            subject = _subject(error, {name: place for name, place in places.items() if values.get(name) is not None})
            if subject is None or _names_a_place(str(error), places.values()):
                raise
            with errors_at(subject):
                raise

    return named


def _place(parameter: inspect.Parameter) -> str:
    """How a parameter of a verb is typed: the longest name of an option, or the placeholder of an argument."""
    (information, *_) = getattr(parameter.annotation, "__metadata__", (None,))
    if isinstance(information, typer.models.ArgumentInfo):
        return information.metavar or parameter.name.upper()
    # In an annotation, the first name of an option is where typer has its default otherwise
    declared = (getattr(information, "default", None), *(getattr(information, "param_decls", None) or ()))
    names = [name for name in declared if isinstance(name, str) and name.startswith("-")]
    return max(names, key=len, default=f"--{parameter.name.replace('_', '-')}")


def _subject(error: Exception, places: Mapping[str, str]) -> str | None:
    """The place of what an error is about, of those where something was typed."""
    for kind, names in _SUBJECTS:
        if isinstance(error, kind):
            return next((places[name] for name in names if name in places), None)
    return None


def _names_a_place(sentence: str, places: Iterable[str]) -> bool:
    """Whether a sentence names an option, or begins with an argument."""
    return any(
        sentence.startswith(f"{place}:") or (place.startswith("-") and re.search(rf"{place}(?![\w-])", sentence))
        for place in places
    )
