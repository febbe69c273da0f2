"""What the processes of a training run exchange in a step: bytes that each of them hands to collective operations."""

from __future__ import annotations

from dataclasses import dataclass

from crosstime.training.topk_config import BatchTopKConfig, TopKConfig
from crosstime.training.trainer_config import TrainerConfig

FLOAT = 4


@dataclass(frozen=True)
class Traffic:
    """Bytes that one process hands to the collective operations of a training step.

    How much of it crosses a wire depends on the algorithm: a ring sends an all-reduce of N bytes among R processes as
    2 N (R - 1) / R bytes from each of them.

    Attributes:
        reconstructions: the all-reduce of partial reconstructions among the shards, B C D.
        candidates: the largest codes that a shard sends to the others (TopK and BatchTopK).
        gradients: the mean of gradients over data-parallel groups, of the weights that a process holds.
    """

    reconstructions: int
    candidates: int
    gradients: int

    @property
    def total(self) -> int:
        """All of them; the scalars of a step, less than a kilobyte, are left out."""
        return self.reconstructions + self.candidates + self.gradients


def traffic(
    config: TrainerConfig, n_checkpoints: int, d_model: int, batch: int, *, feature_shards: int = 1, groups: int = 1
) -> Traffic:
    """The traffic of a step in which no feature is dead; with AuxK, dead features double the first two terms at most.

    ::

        reconstructions   4 B C D                          among the shards, R > 1
        candidates        4 B min(k, F/R)                  TopK, R > 1
                          4 min(k B, B F/R)                BatchTopK, R > 1 or P > 1; R times as much, if both
        gradients         4 (2 C D F/R + F/R + C D)        among the groups, P > 1, with F bytes for what fired

    Args:
        config: kind and hyper-parameters.
        n_checkpoints, d_model: C and D.
        batch: tokens of a step in all groups.
        feature_shards: R, processes among which the features are divided.
        groups: P, data-parallel groups.

    Examples:
        >>> from crosstime.training.l1_config import L1Config
        >>> traffic(L1Config(n_features=16_384), 3, 2_048, 4_096, feature_shards=4).reconstructions
        100663296
    """
    rows, features = batch // groups, config.n_features // feature_shards
    sharded, parallel = feature_shards > 1, groups > 1

    # Codes that compete
    candidates = 0
    if isinstance(config, BatchTopKConfig):
        best = FLOAT * min(config.k_at(config.steps) * batch, rows * features)
        candidates = best * sharded + best * feature_shards * parallel
    elif isinstance(config, TopKConfig) and sharded:
        candidates = FLOAT * rows * min(config.k_at(config.steps), features)

    # Weights of this process, thresholds included, and which features fired
    thresholds = sum(parameter.numel() for parameter in config.activation().parameters()) // feature_shards
    weights = 2 * n_checkpoints * d_model * features + features + n_checkpoints * d_model + thresholds
    return Traffic(
        reconstructions=FLOAT * rows * n_checkpoints * d_model * sharded,
        candidates=candidates,
        gradients=(FLOAT * weights + features) * parallel,
    )
