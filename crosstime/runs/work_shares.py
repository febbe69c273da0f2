"""The work of a stage, shared among the processes of a run in parts that do not depend on their number.

A stage is cut into parts of a fixed size: checkpoints, or blocks of prompts. Each part is a file, made by one process,
and the first process joins them. The result is therefore the same, bit for bit, whether one process made all parts or
eight processes made some each, and a stopped run finds the finished ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from crosstime.errors import CrosstimeError
from crosstime.machine.processes import Processes
from interventions import Effects

BLOCK = 1_000
"""Prompts of one part: enough to fill a GPU's batches."""
Item = TypeVar("Item")


def shard(items: Sequence[Item], processes: Processes) -> list[Item]:
    """The items that this process works on: every n-th of n processes, so that long tasks are spread over all.

    Examples:
        >>> shard(["a", "b", "c"], Processes(rank=1, size=2))
        ['b']
    """
    return list(items[processes.rank :: processes.size])


def broadcast(answer: bool, processes: Processes) -> bool:
    """The first process' answer, on every process."""
    return bool(processes.maximum(torch.tensor([int(answer and processes.first)])).item())


def blocks(count: int, size: int = BLOCK) -> list[range]:
    """Consecutive ranges of at most `size` that cover ``range(count)``.

    Examples:
        >>> blocks(5, 2)
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def concatenate_effects(parts: Sequence[Sequence[Effects]]) -> tuple[Effects, ...]:
    """Join effects on consecutive blocks of prompts to effects on all prompts.

    Args:
        parts: for each block of prompts, the effects at each checkpoint.

    Returns:
        The effects at each checkpoint.

    Raises:
        CrosstimeError: the parts differ in their checkpoints, their number of features, their method or aggregation.
    """
    kinds = {
        (
            len(part),
            *((effects.n_features, effects.method, effects.position is None, effects.aggregation) for effects in part),
        )
        for part in parts
    }
    if len(kinds) != 1:
        raise CrosstimeError("effects on parts of a task do not fit together: they are of other checkpoints or methods")
    return tuple(_concatenate(checkpoint) for checkpoint in zip(*parts, strict=True))


def _concatenate(blocks: Sequence[Effects]) -> Effects:
    """Join effects at one checkpoint; prompts are numbered through."""
    starts, n_prompts = [], 0
    for block in blocks:
        starts.append(n_prompts)
        n_prompts += len(block.clean)
    positions = [block.position for block in blocks if block.position is not None]
    return Effects(
        prompt=torch.cat([block.prompt + start for block, start in zip(blocks, starts, strict=True)]),
        position=torch.cat(positions) if positions else None,
        feature=torch.cat([block.feature for block in blocks]),
        value=torch.cat([block.value for block in blocks]),
        error=torch.cat([block.error for block in blocks]),
        clean=torch.cat([block.clean for block in blocks]),
        baseline=torch.cat([block.baseline for block in blocks]),
        lengths=torch.cat([block.lengths for block in blocks]),
        n_features=blocks[0].n_features,
        method=blocks[0].method,
        aggregation=blocks[0].aggregation,
    )
