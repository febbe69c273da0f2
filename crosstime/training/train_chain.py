"""A chain of sparse autoencoders, one for each checkpoint, each trained from the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from crosstime.activations.data_config import DataConfig
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.suites.compute import Compute
from crosstime.suites.read_lines import TextSource
from crosstime.suites.suite import Suite
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.train import train
from crosstime.training.trainer_config import TrainerConfig
from interventions import Site


def train_chain(
    suite: Suite,
    site: Site | str,
    corpus: TextSource | Iterable[str],
    config: TrainerConfig,
    *,
    data: DataConfig = DataConfig(),
    precision: str | None = None,
    keep: Callable[[str, Callable[[], CrossCoder]], CrossCoder] = lambda revision, trained: trained(),
    compute: Compute = Compute(),
) -> tuple[CrossCoder, ...]:
    """Train a sparse autoencoder of each checkpoint in order, each from the weights of the one before it.

    A feature keeps its number along the chain, so that it can be followed over training without a crosscoder, and its
    own data decide what it becomes at each checkpoint.

    Args:
        suite: the checkpoints, in order.
        site: where activations are read.
        corpus: as `train` takes it, but a store of activations, which holds all checkpoints at once.
        config: kind, size and hyper-parameters of each training; see `train`.
        data: see `train`.
        precision: see `train`.
        keep: called with the name of a checkpoint and a function that trains its autoencoder; returns the
            autoencoder, for instance from a file that an earlier call wrote.
        compute: how the checkpoints are run.

    Returns:
        A crosscoder of one checkpoint for each checkpoint.

    Raises:
        CrosscoderError: see `train`; or the features are divided among processes.

    Examples:
        >>> chain = train_chain(suite, Site(1), "corpus.txt.gz", config, data=data)  # doctest: +SKIP
        >>> baseline_dictionaries(suite, crosscoder, text, ["sae-chain"], chain=chain)  # doctest: +SKIP
    """
    chain: list[CrossCoder] = []
    for revision in suite.revisions:
        before = chain[-1] if chain else None

        def trained(revision: str = revision, before: CrossCoder | None = before) -> CrossCoder:
            return train(
                suite.select([revision]),
                site,
                corpus,
                config,
                data=data,
                precision=precision,
                checkpointing=Checkpointing(start=before),
                compute=compute,
            ).crosscoder

        chain.append(keep(revision, trained))
    return tuple(chain)
