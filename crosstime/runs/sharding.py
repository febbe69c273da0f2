"""Work shared out among processes, in parts that do not depend on how many processes there are.

A stage is cut into parts of a fixed size: checkpoints, or blocks of prompts. Every part is a file, made by one
process, and the first process puts the parts together. So the result is the same, bit for bit, whether one process
made all parts or eight made one each, and a run that was stopped finds the parts that are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from crosstime.errors import CrosstimeError
from crosstime.machine.processes import Processes
from interventions import Effects
from tasks import TokenizedTask

BLOCK = 1_000
"""Prompts of one part: enough to fill a GPU's batches."""
Item = TypeVar("Item")


def own(parts: Sequence[Item], processes: Processes) -> list[Item]:
    """The parts that this process makes: every n-th of n processes, so that long tasks are spread over all.

    Examples:
        >>> own(["a", "b", "c"], Processes(rank=1, size=2))
        ['b']
    """
    return list(parts[processes.rank :: processes.size])


def wait(processes: Processes) -> None:
    """Go on when every process has come here."""
    processes.maximum(torch.zeros(1))


def agree(answer: bool, processes: Processes) -> bool:
    """What the first process says, on all of them."""
    return bool(processes.maximum(torch.tensor([int(answer and processes.first)])).item())


def blocks(count: int, size: int = BLOCK) -> list[range]:
    """Consecutive ranges of at most `size` that cover `count`.

    Examples:
        >>> blocks(5, 2)
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def some_prompts(task: TokenizedTask, rows: range) -> TokenizedTask:
    """A task's prompts of some rows."""
    kept = slice(rows.start, rows.stop)
    return replace(
        task, prompts=task.prompts[kept], right=task.right[kept], wrong=task.wrong[kept], pairs=task.pairs[kept],
        patch=None if task.patch is None else task.patch[kept],
    )  # fmt: skip


def joined_effects(parts: Sequence[Sequence[Effects]]) -> tuple[Effects, ...]:
    """Effects on consecutive blocks of prompts, as effects on all of them; each part has one entry a checkpoint.

    Raises:
        CrosstimeError: parts of different numbers of checkpoints or features, or found by different methods.
    """
    alike = {(len(part), *((each.n_features, each.method, each.position is None) for each in part)) for part in parts}
    if len(alike) != 1:
        raise CrosstimeError("effects on parts of a task do not fit together: they are of other checkpoints or methods")
    return tuple(_one(effects) for effects in zip(*parts, strict=True))


def _one(parts: Sequence[Effects]) -> Effects:
    starts, total = [], 0
    for part in parts:
        starts.append(total)
        total += len(part.clean)
    first = parts[0]
    return Effects(
        prompt=torch.cat([part.prompt + start for part, start in zip(parts, starts, strict=True)]),
        position=None if first.position is None else torch.cat([part.position for part in parts]),
        feature=torch.cat([part.feature for part in parts]),
        value=torch.cat([part.value for part in parts]),
        error=torch.cat([part.error for part in parts]),
        clean=torch.cat([part.clean for part in parts]),
        baseline=torch.cat([part.baseline for part in parts]),
        lengths=torch.cat([part.lengths for part in parts]),
        n_features=first.n_features,
        method=first.method,
    )
