"""What each of the processes of a training run holds in memory and exchanges, from the sizes of the recipe.

With P data-parallel groups of R feature shards, ``N = P R`` processes::

    crosscoder     16 bytes x 2 C D F / R                       weights, gradients, two moments of Adam, of every seed
    batch          4 bytes x B / P x (4 F / R + 8 C D)          `crosstime.training.memory.batch_bytes`
    checkpoints    those that stay open, as many as fit half of the memory that is left
                   (`crosstime.suites.resident_checkpoints`)
    buffer         buffer_tokens x C x the bytes of a row, in the main memory of each machine; twice while the first
                   filling is copied into it, or while the next one is read ahead
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from crosstime.activations.row_format import RowFormat
from crosstime.machine.memory import in_bytes
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.traffic import Traffic, traffic
from crosstime.runs.plan.work import Number
from crosstime.suites.resident_checkpoints import n_staying
from crosstime.training.memory import batch_bytes


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that each process of a training run needs.

    Attributes:
        crosscoder: weights, gradients and moments of its features.
        batch: codes and activations of its rows of a batch, with their gradients.
        buffer: the shuffle buffer, once on each machine.
    """

    crosscoder: Number
    batch: Number
    buffer: Number

    @classmethod
    def of(cls, sizes: Sizes) -> TrainingMemory:
        """The memory of a recipe's training.

        Examples:
            >>> TrainingMemory.of(sizes).crosscoder / 1e9  # doctest: +SKIP
            3.2
        """
        table, c, d = sizes.recipe.crosscoder, sizes.n_checkpoints, sizes.model.d_model
        held = min(max(table.buffer_tokens, table.batch_size), table.steps * table.batch_size)
        if sizes.recipe.rows.matrices:
            held = min(held, sizes.n_rows)
        return cls(
            crosscoder=32 * sizes.n_seeds * sizes.cdf / sizes.feature_shards,
            batch=batch_bytes(table.config(), c, d, table.batch_size / sizes.groups, sizes.feature_shards),
            buffer=held * c * RowFormat(table.buffer_dtype).row_bytes(d),
        )

    @property
    def filling(self) -> Number:
        """The buffer while it is filled."""
        return 2 * self.buffer


@dataclass(frozen=True)
class TrainingPlan:
    """The processes of a training run.

    Attributes:
        groups, feature_shards: P and R.
        memory: what each process needs.
        n_checkpoints: checkpoints that each process runs; 0 if it trains on a store, or on rows of parameters.
        n_open: those of them that stay open.
        open_bytes: bytes of those on the device of each process.
        openings: checkpoints that each process opens after the first filling of the buffer.
        traffic: bytes that each process hands to collective operations in a step.
    """

    groups: int
    feature_shards: int
    memory: TrainingMemory
    n_checkpoints: int
    n_open: int
    open_bytes: Number
    openings: int
    traffic: Traffic

    @classmethod
    def of(cls, sizes: Sizes, device_memory: Number) -> TrainingPlan:
        """Plan the training of a recipe.

        Args:
            sizes: sizes of the run, with its number of processes.
            device_memory: bytes of the device of each process; on a CPU, of the machine that all of them share.
        """
        table, memory = sizes.recipe.crosscoder, TrainingMemory.of(sizes)
        runs_none = sizes.recipe.rows.matrices or sizes.recipe.corpus.store() is not None
        n_checkpoints = 0 if runs_none else sizes.n_checkpoints

        # As many checkpoints stay open as fit in half of what the crosscoder leaves
        resident_gb = sizes.recipe.compute.resident_gb
        if resident_gb is not None:
            budget: Number = resident_gb * 1e9
        else:
            free = device_memory if sizes.gpu else (device_memory - memory.filling) / sizes.processes
            budget = max(0, free - memory.crosscoder - memory.batch) / 2
        n_open = n_staying(budget, sizes.model_bytes, n_checkpoints)

        # If not all of them fit, each process runs some of them
        if n_open < n_checkpoints and 1 < sizes.processes <= n_checkpoints:
            n_checkpoints = math.ceil(n_checkpoints / sizes.processes)
            n_open = n_staying(budget, sizes.model_bytes, n_checkpoints)

        tokens = table.steps * table.batch_size
        refills = max(0, math.ceil(2 * tokens / max(table.buffer_tokens, table.batch_size)) - 2)
        step = traffic(
            table.config(),
            sizes.n_checkpoints,
            sizes.model.d_model,
            table.batch_size,
            feature_shards=sizes.feature_shards,
            groups=sizes.groups,
        )
        return cls(
            sizes.groups,
            sizes.feature_shards,
            memory,
            n_checkpoints,
            n_open,
            n_open * sizes.model_bytes,
            refills * (n_checkpoints - n_open),
            step,
        )

    @property
    def processes(self) -> int:
        """N."""
        return self.groups * self.feature_shards

    def sentences(self) -> list[str]:
        """The plan in words."""
        memory = self.memory
        crosscoder = f"{in_bytes(memory.crosscoder)} of crosscoder and {in_bytes(memory.batch)} of batch"
        lines = [
            f"Training: {crosscoder} on the device, and a buffer of {in_bytes(memory.buffer)} in main memory (twice "
            "while it is filled)."
        ]
        if self.processes > 1:
            lines = [
                f"Training on {self.processes} processes ({self.groups} x {self.feature_shards}: data-parallel groups "
                f"x feature shards): each has {crosscoder}, and hands {in_bytes(self.traffic.total)} to collective "
                f"operations in a step; each machine has a buffer of {in_bytes(memory.buffer)} (twice while it is "
                "filled)."
            ]
        if self.n_checkpoints:
            process = "each process" if self.processes > 1 else "it"
            opened = "all" if self.n_open == self.n_checkpoints else f"{self.n_open}"
            line = f"Of the {self.n_checkpoints} checkpoints that {process} runs, {opened} stay open"
            line += f" ({in_bytes(self.open_bytes)})" if self.n_open else ""
            if self.openings:
                line += f"; the others are opened {self.openings:,} times"
            lines.append(f"{line}.")
        return lines
