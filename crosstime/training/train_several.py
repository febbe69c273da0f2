"""Train several crosscoders, such as other seeds, on the same activations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from importlib.metadata import version

import pandas as pd
import torch

from crosstime.activations.data_config import DataConfig
from crosstime.activations.store import ActivationStore
from crosstime.crosscoders.feature_shard import FeatureShard
from crosstime.crosscoders.origin import ORDERED, TEXT_START, Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.mesh import Mesh
from crosstime.machine.processes import join_processes, local_device
from crosstime.machine.progress import track
from crosstime.suites.allowances import allowances
from crosstime.suites.compute import Compute
from crosstime.suites.read_lines import TextSource
from crosstime.suites.suite import Suite
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.data import TrainingData
from crosstime.training.loggers import Logging, MetricsWriter
from crosstime.training.loop import run_loop
from crosstime.training.memory import batch_bytes, refuse_too_large, training_bytes
from crosstime.training.precision import best_precision, tensor_cores
from crosstime.training.resume import Checkpointer
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.trainer_of import trainer_of
from crosstime.training.training_result import TrainingResult
from crosstime.training.warm_start import copy_weights, refuse_unfit_start, start_record, warm_config
from interventions import Site


def train_several(
    suite: Suite,
    site: Site | str,
    corpus: TextSource | Iterable[str] | ActivationStore,
    configs: Sequence[TrainerConfig],
    *,
    data: DataConfig = DataConfig(),
    precision: str | None = None,
    checkpointing: Checkpointing = Checkpointing(),
    logging: Logging | Sequence[Logging] = (),
    compute: Compute = Compute(),
) -> tuple[TrainingResult, ...]:
    """Train several crosscoders (other seeds, sizes or kinds) from one pass over the activations.

    The activations are computed, or read, once, and every crosscoder takes its step on every batch. Each is bit for bit
    the crosscoder that `train` gives with its configuration alone, and the log is the same. The weights, gradients and
    moments of all are in memory at a time, and they are saved and resumed together.

    Args:
        suite: as for `train`.
        site: as for `train`. Crosscoders of different sites need different activations: train them separately.
        corpus: as for `train`.
        configs: one configuration for each crosscoder; all of the same number of steps. Other seeds are
            ``[dataclasses.replace(config, seed=seed) for seed in (124, 153, 6582)]``.
        data: as for `train`; its seed is that of the order of the text, which all crosscoders share.
        precision: as for `train`.
        checkpointing: as for `train`, without `start` for several; one file holds the state of all.
        logging: where the metrics of each crosscoder are written; of those left out, nothing is written.
        compute: as for `train`; several crosscoders need ``feature_shards = 1``.

    Returns:
        The result of each training, in the order of `configs`.

    Raises:
        CrosscoderError: there is no configuration, the numbers of steps differ, the features are divided among
            processes, or training starts from the weights of one crosscoder; or see `train`.
        SuiteError, CorpusError, StoreError, ProcessError: see `train`.

    Examples:
        >>> configs = [BatchTopKConfig(n_features=1024, seed=seed) for seed in (0, 1, 2)]  # doctest: +SKIP
        >>> seeds = train_several(suite, "resid.1", "corpus.txt.gz", configs)  # doctest: +SKIP
        >>> pairwise_mcc([result.crosscoder for result in seeds]).mcc.mean()  # doctest: +SKIP
    """
    configs, n_steps = list(configs), _common_steps(configs, checkpointing, compute)
    loggings = [logging] if isinstance(logging, Logging) else list(logging)
    if len(loggings) > len(configs):
        raise CrosscoderError(f"There are {len(configs)} configurations, and {len(loggings)} places for their metrics.")
    loggings += [Logging()] * (len(configs) - len(loggings))

    # Resolve device, precision and the processes of torchrun, and check the checkpoints that are to be run.
    device = local_device(compute.torch_device)
    precision = precision or best_precision(device)
    start_from = checkpointing.start
    if start_from is not None:
        refuse_unfit_start(start_from, configs[0], len(suite), suite.d_model, compute.feature_shards)
        configs = [warm_config(configs[0])]
    mesh = Mesh.of(join_processes(device), compute.feature_shards, device.type)
    shards = [FeatureShard(config.n_features, mesh.features, writes=mesh.data.first) for config in configs]
    if not isinstance(corpus, ActivationStore):
        compute.verify(suite, distinct=True)
    else:
        data = replace(data, sequence_length=corpus.sequence_length)

    # Describe the data, and what the crosscoders were trained on.
    training_data = TrainingData(
        suite=suite,
        site=Site.of(site).resolve(suite.n_layers),
        corpus=corpus,
        config=data,
        limit=n_steps * data.batch_size,
        compute=replace(compute, device=str(device)),
        mesh=mesh,
        reserved=_reserved_bytes(configs, suite, data.batch_size / mesh.data.size, compute.feature_shards),
    )
    common = {**allowances(suite), **({} if suite.ordered else {ORDERED: False})}
    if text_start := (corpus if isinstance(corpus, ActivationStore) else suite).start_tokens:
        common[TEXT_START] = list(text_start)
    if start_from is not None:
        common["start"] = start_record(start_from)
    origins = [
        Origin(suite.name, suite.revisions, training_data.site, suite.d_model, {**_settings(config, data), **common})
        for config in configs
    ]
    refuse_too_large(configs, len(suite), suite.d_model, device, compute.feature_shards)

    # Several processes must start from the same inputs, or their parts would not fit together.
    if mesh.everyone.size > 1:
        inputs = [*(origin.to_json() for origin in origins), suite.fingerprint, version("crosstime"), torch.__version__]
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).digest()
        mesh.everyone.agree(digest, "checkpoints, settings and versions")

    # Look for the state of an interrupted run, which one training run at a time may resume.
    resume_settings = {
        "buffer_tokens": data.buffer_tokens,
        "buffer_dtype": data.buffer_dtype,
        "validation": data.validation,
        "precision": precision,
    }
    checkpointer = Checkpointer(checkpointing, resume_settings)
    with closing(training_data), checkpointer.alone() if mesh.everyone.first else nullcontext():
        state = checkpointer.load(origins, shards[0])
        start = state.step if state else 0

        # Read the held-out documents first: then nothing else runs the checkpoints while batches are read ahead.
        validation = training_data.validation_batch()

        with ExitStack() as stack:
            metrics = [
                stack.enter_context(MetricsWriter(place if mesh.everyone.first else Logging(), start=start))
                for place in loggings
            ]
            batches = stack.enter_context(closing(training_data.batches(state.buffer if state else None)))

            # Initialise the crosscoders with the scales of their data, or restore them.
            trainers = []
            for config, origin, shard in zip(configs, origins, shards, strict=True):
                crosscoder = config.crosscoder(origin, batches.scales.clone(), shard=shard)
                if start_from is not None:
                    copy_weights(start_from, crosscoder)
                trainers.append(trainer_of(config, crosscoder.to(device), processes=mesh.data, precision=precision))
            if state is not None:
                state.restore(trainers)

            # Train.
            title = "Training the crosscoder" if len(trainers) == 1 else f"Training {len(trainers)} crosscoders"
            with track(title, n_steps, "steps") as bar, tensor_cores(device):
                logs = run_loop(
                    trainers,
                    batches,
                    checkpointer,
                    metrics,
                    start=start,
                    earlier=state.logs if state else None,
                    validation=validation,
                    bar=bar,
                )

    # Record how many tokens were left out for their norms.
    results = []
    for trainer, origin, log in zip(trainers, origins, logs, strict=True):
        crosscoder = trainer.crosscoder
        if data.max_activation_norm_multiple is not None:
            crosscoder.origin = replace(origin, training=origin.training | {"tokens_left_out": batches.left_out})
        results.append(TrainingResult(crosscoder.cpu().eval(), pd.DataFrame(log), batches.tokens))
    return tuple(results)


def _common_steps(configs: Sequence[TrainerConfig], checkpointing: Checkpointing, compute: Compute) -> int:
    """The number of steps of all configurations.

    Raises:
        CrosscoderError: there is no configuration, the steps differ, or several cannot be trained together.
    """
    steps = sorted({config.steps for config in configs})
    if not steps:
        raise CrosscoderError("There is no configuration to train: name at least one.")
    if len(steps) > 1:
        raise CrosscoderError(
            f"Crosscoders that are trained together take the same number of steps, not {', '.join(map(str, steps))}."
        )
    if len(configs) > 1 and compute.feature_shards > 1:
        raise CrosscoderError("Several crosscoders are trained together only with feature_shards = 1.")
    if len(configs) > 1 and checkpointing.start is not None:
        raise CrosscoderError("Several crosscoders that are trained together cannot start from the weights of one.")
    return steps[0]


def _reserved_bytes(configs: Sequence[TrainerConfig], suite: Suite, rows: float, feature_shards: int) -> int:
    """Bytes on the device of the weights of all crosscoders in training, and of the largest batch of a step."""
    c, d = len(suite), suite.d_model
    weights = sum(training_bytes(config.n_features // feature_shards, c, d) for config in configs)
    return weights + int(max(batch_bytes(config, c, d, rows, feature_shards) for config in configs))


def _settings(config: TrainerConfig, data: DataConfig) -> dict[str, object]:
    """The settings that are saved with the crosscoder."""
    return config.record() | {
        "trainer": config.title,
        "batch_size": data.batch_size,
        "sequence_length": data.sequence_length,
        "data_seed": data.seed,
        **data.norm_settings(),
        **data.null_settings(),
    }
