"""Errors of tasks: one class hierarchy, with a message of one sentence each."""

from __future__ import annotations


class TaskError(ValueError):
    """Base class of every error that `tasks` raises deliberately."""


class UnknownTaskError(TaskError):
    """A task, paradigm, language or phenomenon does not exist."""


class DataError(TaskError):
    """A data file is missing, or has a line that cannot be read."""


class EmptyTaskError(TaskError):
    """No pair of a task is left after filtering."""


class NoSharedPromptError(TaskError):
    """Prompts were requested of a task whose sentences differ before the answer."""


class TokenizerError(TaskError):
    """A tokenizer lacks character offsets, or a token at which a text can begin."""
