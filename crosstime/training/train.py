"""Train a crosscoder on the activations of a suite's checkpoints."""

from __future__ import annotations

from collections.abc import Iterable

from crosstime.activations.data_config import DataConfig
from crosstime.activations.store import ActivationStore
from crosstime.suites.compute import Compute
from crosstime.suites.read_lines import TextSource
from crosstime.suites.suite import Suite
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.loggers import Logging
from crosstime.training.train_several import train_several
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.training_result import TrainingResult
from interventions import Site


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

    Returns:
        The crosscoder, the log of its losses, and the number of tokens that were read.

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
    (result,) = train_several(
        suite,
        site,
        corpus,
        [config],
        data=data,
        precision=precision,
        checkpointing=checkpointing,
        logging=logging,
        compute=compute,
    )
    return result
