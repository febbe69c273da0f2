"""The training loop of a crosscoder, or of several on the same batches.

For every step of the configuration:

1. Take the next batch of activations ``B C D``, shuffled over the text; each process keeps its rows of the batch.
2. Take one optimiser step of each crosscoder on it (`Trainer.update`): forward pass, loss of the crosscoder's kind,
   backward pass, mean of the gradients over processes, gradient clipping, Adam, learning-rate schedule.
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
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from crosstime.activations.buffer import ShuffledBuffer
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import Bar
from crosstime.training.held_out_documents import ValidationBatch
from crosstime.training.loggers import MetricsWriter
from crosstime.training.resume import Checkpointer
from crosstime.training.trainer import Trainer

LOG_ROWS = 100
"""Number of log rows of a training run, approximately."""

DIVERGED = 1e6
"""Reconstruction error, as a multiple of C D (the error of predicting zero), above which training has diverged."""

Log: TypeAlias = list[dict[str, int | float]]


def run_loop(
    trainers: Sequence[Trainer],
    batches: ShuffledBuffer,
    checkpointer: Checkpointer,
    metrics: Sequence[MetricsWriter],
    *,
    start: int = 0,
    earlier: Sequence[Log] | None = None,
    validation: ValidationBatch | None = None,
    bar: Bar | None = None,
) -> list[Log]:
    """Train from step `start` to the last step of the configurations, which have the same number of steps.

    Args:
        trainers: take the optimiser steps, alone or as one of several processes; one for each crosscoder.
        batches: whole batches, of which each process takes its rows.
        checkpointer: saves the state of the run at regular intervals.
        metrics: for each crosscoder, receives every log row, with learning rate, number of tokens and seconds since
            `start`.
        start: number of steps that have been taken already.
        earlier: for each crosscoder, the log rows of those steps.
        validation: batch of held-out activations whose losses are logged as well.
        bar: progress bar.

    Returns:
        For each crosscoder about a hundred rows, evenly spaced over the steps.

    Raises:
        CrosscoderError: the corpus has too few tokens for all steps, or training diverged.
    """
    n_steps, processes, bar = trainers[0].settings.steps, trainers[0].processes, bar or Bar()
    device = trainers[0].crosscoder.W_dec.device
    log_every = max(1, n_steps // LOG_ROWS)
    logs = [list(log) for log in earlier] if earlier else [[] for _ in trainers]
    began = time.perf_counter()
    bar.start_at(start)

    for step in range(start, n_steps):
        # Take an optimiser step of each crosscoder on the next batch.
        x = _to_device(processes.rows(_next_batch(batches, n_steps)), device)
        for trainer in trainers:
            trainer.update(step, x)

        # Check for divergence, on a GPU only where the device is waited for anyway.
        saving = checkpointer.is_due(step, n_steps)
        logging = step % log_every == 0 or step == n_steps - 1
        if saving or logging or device.type == "cpu":
            for index, trainer in enumerate(trainers):
                _check_divergence(trainer, step, checkpointer, index if len(trainers) > 1 else None)

        # Log the losses.
        if logging:
            for trainer, log, writer in zip(trainers, logs, metrics, strict=True):
                row: dict[str, int | float] = {"step": step, **trainer.get_logging_parameters()}
                if validation is not None:
                    row |= validation.losses(trainer, step)
                log.append(row)
                progress = {
                    "lr": trainer.settings.lr * trainer.settings.lr_factor(step),
                    "tokens": (step + 1) * batches.batch_size,
                    "seconds": time.perf_counter() - began,
                }
                writer.write(row | progress)
        if (logging or bar.needs_note) and (losses := trainers[0].last_losses) is not None:
            bar.note(f"loss {losses.loss.item():.3g}, {losses.l0.item():.0f} features per token")

        # Save the state, from which the run resumes at the next step.
        if saving:
            checkpointer.save(trainers, batches, step + 1, logs)
        bar.advance()

    return logs


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


def _check_divergence(trainer: Trainer, step: int, checkpointer: Checkpointer, index: int | None) -> None:
    losses, crosscoder = trainer.last_losses, trainer.crosscoder
    if losses is None:
        return
    loss, l2 = losses.loss.item(), losses.l2.item()
    if math.isfinite(loss) and l2 < DIVERGED * crosscoder.n_checkpoints * crosscoder.origin.d_model:
        return
    last_state = f" The last good state is in {checkpointer.path}." if checkpointer.has_state else ""
    of = "" if index is None else f" in crosscoder {index}"
    raise CrosscoderError(
        f"Training diverged at step {step}{of}: the loss is {loss:.3g}. Take a smaller learning rate than "
        f"{trainer.settings.lr:g}, or a longer warm-up.{last_state}"
    )
