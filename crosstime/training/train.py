"""Train a crosscoder on the activations of a suite's checkpoints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version

import pandas as pd
import torch

from crosstime.activations.data_config import DataConfig
from crosstime.activations.store import ActivationStore
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.feature_shard import FeatureShard
from crosstime.crosscoders.origin import ORDERED, TEXT_START, Origin
from crosstime.machine.mesh import Mesh
from crosstime.machine.processes import join_processes, local_device
from crosstime.machine.progress import track
from crosstime.shown import Shown
from crosstime.suites.allowances import allowances
from crosstime.suites.compute import Compute
from crosstime.suites.read_lines import TextSource
from crosstime.suites.suite import Suite
from crosstime.training.checkpointing import Checkpointing
from crosstime.training.data import TrainingData
from crosstime.training.loggers import Logging, MetricsWriter
from crosstime.training.loop import run_loop
from crosstime.training.memory import batch_bytes, refuse_too_large, training_bytes
from crosstime.training.resume import Checkpointer
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.trainer_of import trainer_of
from crosstime.training.warm_start import copy_weights, refuse_unfit_start, start_record, warm_config
from interventions import Site


@dataclass(frozen=True, eq=False, repr=False)
class TrainingResult(Shown):
    """A trained crosscoder and the log of its losses.

    Attributes:
        crosscoder: the crosscoder, in evaluation mode on the CPU. With feature shards it is this process's shard, whose
            `save` all processes call together.
        log: about a hundred rows, evenly spaced over the steps: step, loss, l2, sparsity, l0, dead; with a validation
            fraction also held_out_loss and held_out_l2 (see `crosstime.training.held_out.ValidationBatch`).
        tokens: number of tokens whose activations were computed or read.
    """

    crosscoder: CrossCoder
    log: pd.DataFrame
    tokens: int

    def headline(self) -> str:
        """The crosscoder, and the number of tokens that it was trained on."""
        return f"{self.crosscoder.headline()}; {self.tokens:,} tokens were harvested"

    def tables(self) -> dict[str, pd.DataFrame]:
        """The last rows of the log."""
        return {"the end of its log": self.log.tail(5)}


def train(
    suite: Suite,
    site: Site | str,
    corpus: TextSource | Iterable[str] | ActivationStore,
    config: TrainerConfig,
    *,
    data: DataConfig = DataConfig(),
    precision: str | None = None,
    checkpointing: Checkpointing = Checkpointing(),
    logging: Logging = Logging(),
    compute: Compute = Compute(),
) -> TrainingResult:
    """Train one crosscoder for all checkpoints of a suite, on activations computed on the fly.

    Training sees ``config.steps * data.batch_size`` tokens. A local corpus with fewer tokens is repeated in another
    order; a Hub data set is streamed once. The default batch size and sequence length are CTT's; a short corpus or a
    small model needs smaller ones.

    With a checkpoint path, everything that training depends on is saved there at regular intervals, atomically, and a
    run that finds such a file resumes from it: on the CPU, to bit-identical weights. The file contains the shuffle
    buffer as well (buffer_tokens x C x D numbers).

    Under ``torchrun`` the processes train together: each computes the activations of its share of the text, and takes
    its share of every batch. The losses are those of a single process. Only the first process writes files. With
    ``Compute(feature_shards=R)``, the features of a crosscoder that is too large for one device are divided among R
    processes: each holds F/R features with their optimizer state, sees the whole batch (of its data-parallel group, if
    there are more processes than shards), and writes its own part of the saved state and of the crosscoder.

    Args:
        suite: the C checkpoints to compare; choose them with `Suite.select`.
        site: where activations are read, such as ``Site(8)`` or ``"resid.8"``.
        corpus: text files, a Hub data set (``hf:ORG/NAME``), an iterable of documents, or a store of activations
            (`crosstime.harvest`).
        config: kind, dictionary size and hyper-parameters: `L1Config`, `TopKConfig`, `BatchTopKConfig`,
            `JumpReLUConfig` or `PerCheckpointJumpReLUConfig`. `config.seed` is the seed of the initialisation.
        data: batch size, sequence length, shuffle buffer, validation fraction and seed of the order of the data.
        precision: precision of the matrix products, float32 or bfloat16; None chooses bfloat16 on a GPU that supports
            it. Weights are always float32, and float32 products use TF32 where a GPU has it.
        checkpointing: where and how often the state of the run is saved, where it is resumed from, and the crosscoder
            from whose weights it starts, if any.
        logging: where the metrics are written while training runs.
        compute: how the checkpoints are run; the crosscoder is trained on the same device.

    Raises:
        ProcessError: the processes of torchrun cannot be arranged in feature shards, or do not start from the same
            inputs.
        CrosscoderError: the crosscoder does not fit the memory of the device; the corpus is too short; training
            diverged (the message names the step); the saved state belongs to another configuration (the message lists
            the differences); the crosscoder to start from does not fit; or the precision is unknown.
        SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.
        CorpusError: the text cannot be read.
        StoreError: the store belongs to other checkpoints or another site, or is damaged.

    Examples:
        >>> config = L1Config(n_features=1024, steps=500, lr=1e-3)  # doctest: +SKIP
        >>> data = DataConfig(batch_size=512, sequence_length=64)  # doctest: +SKIP
        >>> trained = train(suite, Site(1), "corpus.txt.gz", config, data=data)  # doctest: +SKIP
        >>> trained.crosscoder.save("crosscoder.safetensors")  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291), section 3.3.
    """
    # Resolve device, precision and the processes of torchrun, and check the checkpoints that are to be run.
    device = local_device(compute.torch_device)
    precision = precision or _best_precision(device)
    start_from = checkpointing.start
    if start_from is not None:
        refuse_unfit_start(start_from, config, len(suite), suite.d_model, compute.feature_shards)
        config = warm_config(config)
    mesh = Mesh.of(join_processes(device), compute.feature_shards, device.type)
    shard = FeatureShard(config.n_features, mesh.features, writes=mesh.data.first)
    if not isinstance(corpus, ActivationStore):
        compute.verify(suite, distinct=True)
    else:
        data = replace(data, sequence_length=corpus.sequence_length)

    # Describe the data, and what the crosscoder was trained on.
    training_data = TrainingData(
        suite=suite,
        site=Site.of(site).resolve(suite.n_layers),
        corpus=corpus,
        config=data,
        limit=config.steps * data.batch_size,
        compute=replace(compute, device=str(device)),
        mesh=mesh,
        reserved=training_bytes(config.n_features // compute.feature_shards, len(suite), suite.d_model)
        + int(batch_bytes(config, len(suite), suite.d_model, data.batch_size / mesh.data.size, mesh.features.size)),
    )
    settings = {**_settings(config, data), **allowances(suite), **({} if suite.ordered else {ORDERED: False})}
    if text_start := (corpus if isinstance(corpus, ActivationStore) else suite).start_tokens:
        settings[TEXT_START] = list(text_start)
    if start_from is not None:
        settings["start"] = start_record(start_from)
    origin = Origin(suite.name, suite.revisions, training_data.site, suite.d_model, settings)

    refuse_too_large(config, len(suite), suite.d_model, device, compute.feature_shards)

    # Several processes must start from the same inputs, or their parts would not fit together.
    if mesh.everyone.size > 1:
        inputs = [origin.to_json(), suite.fingerprint, version("crosstime"), torch.__version__]
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
        state = checkpointer.load(origin, shard)
        start = state.step if state else 0

        # Read the held-out documents first: then nothing else runs the checkpoints while batches are read ahead.
        validation = training_data.validation_batch()

        with (
            MetricsWriter(logging if mesh.everyone.first else Logging(), start=start) as metrics,
            closing(training_data.batches(state.buffer if state else None)) as batches,
        ):
            # Initialise the crosscoder with the scales of its data, or restore it.
            crosscoder = config.crosscoder(origin, batches.scales, shard=shard)
            if start_from is not None:
                copy_weights(start_from, crosscoder)
            trainer = trainer_of(config, crosscoder.to(device), processes=mesh.data, precision=precision)
            if state is not None:
                state.restore(trainer)

            # Train.
            with track("Training the crosscoder", config.steps, "steps") as bar, _tensor_cores(device):
                log = run_loop(
                    trainer,
                    batches,
                    checkpointer,
                    metrics,
                    start=start,
                    log=state.log if state else None,
                    validation=validation,
                    bar=bar,
                )
    if data.max_activation_norm_multiple is not None:
        crosscoder.origin = replace(origin, training=settings | {"tokens_left_out": batches.left_out})
    return TrainingResult(crosscoder.cpu().eval(), pd.DataFrame(log), batches.tokens)


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


def _best_precision(device: torch.device) -> str:
    """The bfloat16 of a GPU's tensor cores if the GPU has them, else float32."""
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


@contextmanager
def _tensor_cores(device: torch.device) -> Iterator[None]:
    """Let float32 products on a GPU use TF32 during training, and restore the setting afterwards."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.set_float32_matmul_precision(before)
