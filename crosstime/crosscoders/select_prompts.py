"""Some prompts of a decomposed task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.errors import CrosscoderError
from interventions import Decomposition, Prompts


def select_prompts(decomposed: DecomposedTask, rows: Sequence[int]) -> DecomposedTask:
    """The prompts with the given indices, in this order, with their decompositions.

    Raises:
        CrosscoderError: no prompt is selected, or one that does not exist.

    Examples:
        >>> first_half = select_prompts(decomposed, range(len(decomposed.prompts) // 2))  # doctest: +SKIP
    """
    prompts = decomposed.prompts
    if not rows or not all(0 <= row < len(prompts) for row in rows):
        raise CrosscoderError(
            f"Task {decomposed.task.name} has prompts 0 to {len(prompts) - 1}; select at least one of them."
        )
    tokens = torch.cat([prompts.starts[row] + torch.arange(int(prompts.lengths[row])) for row in rows])
    task = decomposed.task.select(rows)
    patched = None if decomposed.patched is None else _select_tokens(decomposed.patched, tokens)
    return DecomposedTask(task, Prompts.of(task), _select_tokens(decomposed.clean, tokens), patched)


def _select_tokens(decompositions: Sequence[Decomposition], tokens: Int[Tensor, " M"]) -> tuple[Decomposition, ...]:
    """The decompositions of some tokens; codes that several checkpoints share stay one object."""
    codes = {id(decomposition.codes): decomposition.codes for decomposition in decompositions}
    selected = {key: shared.rows(tokens) for key, shared in codes.items()}
    return tuple(
        replace(
            decomposition,
            x=decomposition.x[tokens],
            codes=selected[id(decomposition.codes)],
            fixed=None if decomposition.fixed is None else decomposition.fixed[tokens],
        )
        for decomposition in decompositions
    )
