"""The training loop of a crosscoder.

For every step of the configuration:

1. Take the next batch of activations ``B C D``, shuffled over the text; each process keeps its rows of the batch.
2. Take one optimiser step on it (`Trainer.update`): forward pass, loss of the crosscoder's kind, backward pass, mean of
   the gradients over processes, gradient clipping, Adam, learning-rate schedule.
3. Stop if training has diverged: the loss is not finite, or the reconstruction error is a million times that of
   predicting zero.
4. About a hundred times in all, log the losses, and those on the validation batch if there is one.
5. At regular intervals, save the state of the training run, so that an interrupted run resumes at the step after.

Reading a loss waits for the device, so on a GPU steps 3 to 5 only look at the steps that are logged or saved.

Source: CTT (arXiv 2509.05291), section 3.3; Lindsey et al., *Sparse Crosscoders* (Transformer Circuits, 2024).
"""

from __future__ import annotations

import math
import time
from typing import TypeAlias

import torch
from torch import Tensor

from crosstime.activations.buffer import ShuffledBuffer
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import Bar
from crosstime.training.held_out import ValidationBatch
from crosstime.training.loggers import MetricsWriter
from crosstime.training.resume import Checkpointer
from crosstime.training.trainer import Trainer

LOG_ROWS = 100
"""Number of log rows of a training run, approximately."""

DIVERGED = 1e6
"""Reconstruction error, as a multiple of C D (the error of predicting zero), above which training has diverged."""

Log: TypeAlias = list[dict[str, int | float]]


def run_loop(
    trainer: Trainer,
    batches: ShuffledBuffer,
    checkpointer: Checkpointer,
    metrics: MetricsWriter,
    *,
    start: int = 0,
    log: Log | None = None,
    validation: ValidationBatch | None = None,
    bar: Bar | None = None,
) -> Log:
    """Train from step `start` to the last step of the configuration.

    Args:
        trainer: takes the optimiser steps, alone or as one of several processes.
        batches: whole batches, of which each process takes its rows.
        checkpointer: saves the state of the run at regular intervals.
        metrics: receives every log row, with learning rate, number of tokens and seconds since `start`.
        start: number of steps that have been taken already.
        log: log rows of those steps.
        validation: batch of held-out activations whose losses are logged as well.
        bar: progress bar.

    Returns:
        About a hundred rows, evenly spaced over the steps.

    Raises:
        CrosscoderError: the corpus has too few tokens for all steps, or training diverged.
    """
    config, processes, bar = trainer.settings, trainer.processes, bar or Bar()
    device = trainer.crosscoder.W_dec.device
    log_every = max(1, config.steps // LOG_ROWS)
    log = list(log or [])
    began = time.perf_counter()
    bar.start_at(start)

    for step in range(start, config.steps):
        # Take an optimiser step on the next batch.
        x = _next_batch(batches, config.steps)
        trainer.update(step, _to_device(processes.rows(x), device))

        # Check for divergence, on a GPU only where the device is waited for anyway.
        saving = checkpointer.is_due(step, config.steps)
        logging = step % log_every == 0 or step == config.steps - 1
        if saving or logging or device.type == "cpu":
            _check_divergence(trainer, step, checkpointer)

        # Log the losses.
        if logging:
            row: dict[str, int | float] = {"step": step, **trainer.get_logging_parameters()}
            if validation is not None:
                row |= validation.losses(trainer, step)
            log.append(row)
            progress = {
                "lr": config.lr * config.lr_factor(step),
                "tokens": (step + 1) * batches.batch_size,
                "seconds": time.perf_counter() - began,
            }
            metrics.write(row | progress)
        if (logging or bar.needs_note) and trainer.last_losses is not None:
            losses = trainer.last_losses
            bar.note(f"loss {losses.loss.item():.3g}, {losses.l0.item():.0f} features per token")

        # Save the state, from which the run resumes at the next step.
        if saving:
            checkpointer.save(trainer, batches, step + 1, log)
        bar.advance()

    return log


def _next_batch(batches: ShuffledBuffer, n_steps: int) -> Tensor:
    x = next(batches, None)
    if x is None:
        raise CrosscoderError(
            f"The corpus gives {batches.tokens:,} tokens, but {n_steps:,} steps of {batches.batch_size:,} "
            f"need {n_steps * batches.batch_size:,}: give more text, or take fewer steps."
        )
    return x


def _to_device(x: Tensor, device: torch.device) -> Tensor:
    # A copy to the GPU is asynchronous only from pinned memory.
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def _check_divergence(trainer: Trainer, step: int, checkpointer: Checkpointer) -> None:
    losses, crosscoder = trainer.last_losses, trainer.crosscoder
    if losses is None:
        return
    loss, l2 = losses.loss.item(), losses.l2.item()
    if math.isfinite(loss) and l2 < DIVERGED * crosscoder.n_checkpoints * crosscoder.origin.d_model:
        return
    last_state = f" The last good state is in {checkpointer.path}." if checkpointer.has_state else ""
    raise CrosscoderError(
        f"Training diverged at step {step}: the loss is {loss:.3g}. Take a smaller learning rate than "
        f"{trainer.settings.lr:g}, or a longer warm-up.{last_state}"
    )
