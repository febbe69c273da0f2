"""What can be wrong with a task: one class hierarchy, one clear sentence each."""

from __future__ import annotations


class TaskError(ValueError):
    """Base of every error that `tasks` raises on purpose."""


class UnknownTaskError(TaskError):
    """A task, paradigm, language or phenomenon that does not exist."""


class DataError(TaskError):
    """A data file that is missing or has a line that cannot be read."""


class EmptyTaskError(TaskError):
    """Nothing is left of a task after its pairs were filtered."""


class NoSharedPromptError(TaskError):
    """A task whose sentences differ before the answer was asked for prompts."""


class TokenizerError(TaskError):
    """A tokenizer that cannot say which characters a token stands for."""
