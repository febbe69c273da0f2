"""The training loop: batches in, steps of the trainer, rows of numbers out."""

from __future__ import annotations

import math
import time
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.activations.buffer import BufferState
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import Bar
from crosstime.training.held_out import HeldOut
from crosstime.training.loggers import Metrics
from crosstime.training.resume import Keeper
from crosstime.training.trainer import Trainer

LOG_ROWS = 100
EXPLODED = 1e6
"""Reconstruction error, as a multiple of C D (what predicting zero gives), at which training has diverged."""

Log = list[dict[str, int | float]]


@runtime_checkable
class Batches(Protocol):
    """Where activations come from: on the fly, or from a disk; an iterator of batches ``B C D``.

    Attributes:
        scales: s_c.
        batch_size: B.
        tokens: taken from the source so far.
    """

    scales: Float[Tensor, " C"]
    batch_size: int
    tokens: int

    def __next__(self) -> Float[Tensor, "B C D"]:
        """The next batch."""

    def state(self) -> BufferState:
        """All that is needed to serve the batches after this one in another process."""


def fit(
    trainer: Trainer,
    batches: Batches,
    keeper: Keeper,
    metrics: Metrics,
    *,
    start: int = 0,
    log: Log | None = None,
    held_out: HeldOut | None = None,
    bar: Bar | None = None,
) -> Log:
    """Take the steps from `start` to the configuration's last.

    Args:
        trainer: takes the steps, alone or as one of several processes.
        batches: whole batches; each process takes its rows of them.
        keeper: saves the training now and then.
        metrics: gets every row of the log, with learning rate, tokens seen and seconds since `start`.
        log: rows that were logged before `start`.
        held_out: measured whenever something is logged.

    Returns:
        About a hundred rows, evenly over the steps.

    Raises:
        CrosscoderError: the batches end too early, or the loss explodes or is not a number.
    """
    config, processes, bar = trainer.settings, trainer.processes, bar or Bar()
    device = trainer.crosscoder.W_dec.device
    every = max(1, config.steps // LOG_ROWS)
    rows: Log = list(log or [])
    began = time.perf_counter()
    bar.advance(start)
    for step in range(start, config.steps):
        x = next(batches, None)
        if x is None:
            raise CrosscoderError(
                f"The corpus gives {batches.tokens:,} tokens, but {config.steps:,} steps of {batches.batch_size:,} "
                f"need {config.steps * batches.batch_size:,}: give more text, or take fewer steps."
            )
        trainer.update(step, _moved(processes.rows(x), device))
        saving = keeper.due(step, config.steps)
        logging = step % every == 0 or step == config.steps - 1
        if saving or logging or device.type == "cpu":
            _refuse_diverged(trainer, step, keeper)
        if logging:
            rows.append({"step": step, **trainer.get_logging_parameters()})
            if held_out is not None:
                rows[-1] |= held_out.measure(trainer, step)
            metrics.write(
                rows[-1]
                | {
                    "lr": config.lr * config.lr_factor(step),
                    "tokens": (step + 1) * batches.batch_size,
                    "seconds": time.perf_counter() - began,
                }
            )
            bar.note(f"loss {rows[-1]['loss']:.3g}, {rows[-1]['l0']:.0f} features a token")
        if saving:
            keeper.save(trainer, batches.state(), step + 1, rows)
        bar.advance()
    return rows


def _moved(x: Tensor, device: torch.device) -> Tensor:
    # Only from pinned memory does a copy to the GPU not wait for what the GPU is doing.
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def _refuse_diverged(trainer: Trainer, step: int, keeper: Keeper) -> None:
    losses, crosscoder = trainer.last, trainer.crosscoder
    loss, l2 = losses.loss.item(), losses.l2.item()
    if math.isfinite(loss) and l2 < EXPLODED * crosscoder.n_checkpoints * crosscoder.origin.d_model:
        return
    kept = f" The last good state is kept in {keeper.path}." if keeper.kept else ""
    raise CrosscoderError(
        f"Training diverged at step {step}: the loss is {loss:.3g}. Take a smaller learning rate than "
        f"{trainer.settings.lr:g}, or a longer warm-up.{kept}"
    )
