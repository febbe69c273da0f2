"""Train a crosscoder on rows that are no activations, such as those of a weight matrix over training."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pandas as pd

from crosstime.activations.data_config import DataConfig
from crosstime.activations.row_batches import RowBatches
from crosstime.activations.row_source import RowSource
from crosstime.crosscoders.origin import ORDERED, ROWS, Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.processes import join_processes, local_device
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.loggers import Logging, MetricsWriter
from crosstime.training.loop import run_loop
from crosstime.training.memory import refuse_too_large
from crosstime.training.precision import best_precision, tensor_cores
from crosstime.training.resume import Checkpointer
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.trainer_of import trainer_of
from crosstime.training.training_result import TrainingResult


def train_rows(
    source: RowSource,
    config: TrainerConfig,
    *,
    data: DataConfig = DataConfig(),
    precision: str | None = None,
    checkpointing: Checkpointing = Checkpointing(),
    logging: Logging = Logging(),
    device: str | None = None,
) -> TrainingResult:
    """Train one crosscoder on the rows of a source, such as `parameter_rows`, in place of activations of a text.

    Losses, schedules and the log are those of `train`; a row takes the place of a token. Rows are shuffled, and read
    again in another order when all have been served. Functions that read only the weights of a crosscoder, such as
    `crosstime.evolution.decoder_evolution.decoder_evolution` and `crosstime.pairwise_mcc`, accept the result; functions
    that apply a crosscoder to activations of a model refuse it.

    Args:
        source: the rows: `Rows`, or any object with the members of `RowSource`.
        config: kind, dictionary size and hyper-parameters, as for `train`.
        data: batch size, shuffle buffer and seed of the order of the rows; `sequence_length` is ignored, and
            `validation` must be 0.
        precision: as for `train`.
        checkpointing: where the state of the run is saved and resumed from; `start` is not available.
        logging: where the metrics are written while training runs.
        device: where the crosscoder is trained; None takes the GPU if there is one.

    Returns:
        The crosscoder, the log of its losses, and the number of rows that were read.

    Raises:
        CrosscoderError: the source has fewer rows than a batch, or rows that are all zero at a checkpoint; the
            crosscoder does not fit the memory of the device; training diverged; the saved state belongs to other rows
            or another configuration; or an option is not available.

    Examples:
        >>> import torch
        >>> from crosstime.activations.row_source import Rows
        >>> from crosstime.training.topk_config import BatchTopKConfig
        >>> from interventions import Site
        >>> rows = Rows("noise", torch.randn(64, 2, 8), ("step64", "main"), Site(0))
        >>> config = BatchTopKConfig(n_features=16, k=2, k_start=None, steps=2, lr=1e-3)
        >>> train_rows(rows, config, data=DataConfig(batch_size=32), device="cpu").crosscoder.origin.rows
        'noise'
    """
    # Refuse what rows do not have
    if data.validation:
        raise CrosscoderError("Rows have no documents to hold out: validation must be 0.")
    if checkpointing.start is not None:
        raise CrosscoderError("Training on rows starts from random weights: leave Checkpointing.start out.")
    torch_device = local_device(Compute(device).torch_device)
    if join_processes(torch_device).size > 1:
        raise CrosscoderError("Training on rows takes one process: start it without torchrun.")
    refuse_too_large([config], len(source.revisions), source.d_model, torch_device, 1)

    # Describe what the crosscoder is trained on; a buffer of more than all rows would hold some twice
    limit = config.steps * data.batch_size
    data = replace(data, buffer_tokens=min(max(data.buffer_tokens, data.batch_size), max(len(source), 1), limit))
    precision = precision or best_precision(torch_device)
    origin = Origin(source.suite, source.revisions, source.site, source.d_model, _record(source, config, data))
    settings = {"buffer_tokens": data.buffer_tokens, "buffer_dtype": data.buffer_dtype, "precision": precision}
    checkpointer = Checkpointer(checkpointing, settings)

    # Train, from the beginning or from where an interrupted run stopped
    with checkpointer.alone():
        state = checkpointer.load([origin])
        start = state.step if state else 0
        with (
            closing(RowBatches(source, data, limit=limit, state=state.buffer if state else None)) as batches,
            MetricsWriter(logging, start=start) as metrics,
            track("Training the crosscoder", config.steps, "steps") as bar,
            tensor_cores(torch_device),
        ):
            crosscoder = config.crosscoder(origin, batches.scales.clone()).to(torch_device)
            trainer = trainer_of(config, crosscoder, precision=precision)
            if state is not None:
                state.restore([trainer])
            (log,) = run_loop(
                [trainer],
                batches,
                checkpointer,
                [metrics],
                start=start,
                earlier=state.logs if state else None,
                bar=bar,
            )

    # Record how many rows were left out for their norms
    if data.max_activation_norm_multiple is not None:
        crosscoder.origin = replace(origin, training=origin.training | {"tokens_left_out": batches.left_out})
    return TrainingResult(crosscoder.cpu().eval(), pd.DataFrame(log), batches.tokens)


def _record(source: RowSource, config: TrainerConfig, data: DataConfig) -> dict[str, object]:
    """What is saved with the crosscoder about its training."""
    return config.record() | {
        "trainer": config.title,
        ROWS: source.name,
        "batch_size": data.batch_size,
        "data_seed": data.seed,
        **data.norm_settings(),
        **data.null_settings(),
        **({} if source.ordered else {ORDERED: False}),
    }
