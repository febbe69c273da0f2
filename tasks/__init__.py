"""Minimal pairs for causal experiments: read from data sets, turned into prompts and answer tokens.

    >>> import tasks
    >>> task = tasks.load("agreement/attractor", limit=100)
    >>> len(task)
    100

`tasks.load(name).tokenize(tokenizer)` gives unpadded token ids; the package knows tokenizers, but neither models nor
batches. It imports only `user_input`. To add a family of tasks, write a class like `tasks.agreement.Agreement` and list
it as an entry point in pyproject.toml.
"""

from tasks.errors import DataError, EmptyTaskError, NoSharedPromptError, TaskError, TokenizerError, UnknownTaskError
from tasks.minimal_pair import MinimalPair
from tasks.quotas import Quotas
from tasks.registry import TaskFamily, describe, load, names, register
from tasks.task import Task
from tasks.tokenized_task import TokenizedTask
from tasks.whole_sentences import SentencePairs, whole_sentences

# `tasks` is a common name: crosstime checks this to find out whether another package shadows ours.
__project__ = "crosstime"

__all__ = [
    "DataError",
    "EmptyTaskError",
    "MinimalPair",
    "NoSharedPromptError",
    "Quotas",
    "SentencePairs",
    "Task",
    "TaskError",
    "TaskFamily",
    "TokenizedTask",
    "TokenizerError",
    "UnknownTaskError",
    "describe",
    "load",
    "names",
    "register",
    "whole_sentences",
]
