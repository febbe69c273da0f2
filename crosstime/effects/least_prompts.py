"""How many prompts two halves need, so that it can be checked without PyTorch."""

from __future__ import annotations

from crosstime.errors import CrosstimeError

LEAST_PROMPTS = 4
"""Prompts of two halves of at least two prompts each, without which there is no interval over prompts."""


def refuse_few_prompts(
    task: str, n_prompts: int, *, instead: str, error: type[CrosstimeError] = CrosstimeError
) -> None:
    """Refuse to select features on one half of a task's prompts and to test them on the other, if there are too few.

    Args:
        task: name of the task.
        n_prompts: number of its prompts, or of its pairs, of which some may turn out to have no prompt.
        instead: how to select features on all prompts, for the error.
        error: class of the error.

    Raises:
        error: there are fewer than `LEAST_PROMPTS`.
    """
    if n_prompts < LEAST_PROMPTS:
        raise error(
            f"task {task} has {n_prompts} prompts, and two halves need at least {LEAST_PROMPTS}: give more, or select "
            f"features on the prompts on which they are tested, with {instead}."
        )
