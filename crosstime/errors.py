"""What can go wrong in `crosstime` itself, and how to catch the errors of all three packages at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from interventions.errors import InterventionError
from tasks.errors import TaskError
from user_input.parse_json import JsonError


class CrosstimeError(ValueError):
    """Base of the errors of `crosstime`; the message is one sentence: what was expected, what was found, what to do.

    Examples:
        >>> try:
        ...     raise SuiteError("there is no revision 'step3'")
        ... except CrosstimeError as error:
        ...     print(error)
        there is no revision 'step3'
    """


class SuiteError(CrosstimeError):
    """A suite, revision or checkpoint that is missing, or whose checkpoints do not fit together."""


class CorpusError(CrosstimeError):
    """A text source that is missing, broken or empty, or cannot make the sequences asked for."""


class CrosscoderError(CrosstimeError):
    """A crosscoder that does not fit its suite, or a file that does not hold one."""


class StoreError(CrosstimeError):
    """A store of activations that is missing, unfinished or damaged, or was made of something else."""


class RecipeError(CrosstimeError):
    """A recipe with an unknown key, a missing one, or a value that is not allowed."""


class RunError(CrosstimeError):
    """A run folder that is missing, busy, or holds something that this run cannot use."""


class NothingSelectedError(RunError):
    """No feature has an effect on any task."""


class ProcessError(CrosstimeError):
    """Processes of ``torchrun`` that cannot be joined, or one that is gone while others wait for it."""


class AnnotationError(CrosstimeError):
    """A sheet of annotations that does not fit the features, or holds what is not allowed."""


class EndpointError(CrosstimeError):
    """An endpoint of a language model that cannot be used, or does not answer."""


class ReportError(CrosstimeError):
    """A table or feature that a report cannot be made from."""


USER_ERRORS = (CrosstimeError, TaskError, InterventionError, JsonError)
"""Every error with a sentence for the user: ``except ct.errors.USER_ERRORS as error: print(error)``."""


@contextmanager
def errors_at(place: str) -> Iterator[None]:
    """Put the key of a recipe, or the option of a command, before every sentence for the user that the block raises.

    The class of the error stays the same. A sentence that names the place already is left as it is.

    Args:
        place: the key or option, such as ``compare.site`` or ``--site``.

    Examples:
        >>> with errors_at("compare.site"):
        ...     raise SuiteError("the model has layers 0 to 3.")
        Traceback (most recent call last):
        crosstime.errors.SuiteError: compare.site: the model has layers 0 to 3.
    """
    try:
        yield
    except USER_ERRORS as error:
        if place in str(error):
            raise
        # A sentence that begins with the last word of the place says it once
        sentence = str(error).removeprefix(f"{place.rpartition('.')[2]}: ")
        raise type(error)(f"{place}: {sentence}") from error
