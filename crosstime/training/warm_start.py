"""Training that starts from the weights of another crosscoder."""

from __future__ import annotations

from dataclasses import replace

import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.machine.tensors import digest_of
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from crosstime.training.trainer_config import TrainerConfig


def warm_config(config: TrainerConfig) -> TrainerConfig:
    """The configuration without a search for the decoder norm, which would undo what the weights have learned."""
    if isinstance(config, PerCheckpointJumpReLUConfig) and config.norm_search:
        return replace(config, norm_search=False)
    return config


def refuse_unfit_start(
    start: CrossCoder, config: TrainerConfig, n_checkpoints: int, width: int, feature_shards: int
) -> None:
    """Refuse weights that a training with this configuration cannot start from.

    Raises:
        CrosscoderError: the sizes or the kind differ, the weights were folded, or the features are divided among
            processes.
    """
    if feature_shards > 1:
        raise CrosscoderError("Training that starts from a crosscoder needs feature_shards = 1.")
    sizes = {"checkpoints": n_checkpoints, "features": config.n_features, "dimensions": width}
    own = {"checkpoints": start.n_checkpoints, "features": start.n_features, "dimensions": start.origin.d_model}
    for name, size in sizes.items():
        if own[name] != size:
            raise CrosscoderError(f"Training needs {size} {name}, and the crosscoder to start from has {own[name]}.")
    if start.activation.name != config.activation().name:
        raise CrosscoderError(
            f"Training of kind {config.kind} starts from a crosscoder with {config.activation().name}, not "
            f"{start.activation.name}."
        )
    if start.n_shared != config.n_shared:
        raise CrosscoderError(
            f"Training has {config.n_shared} shared features, and the crosscoder to start from {start.n_shared}."
        )
    if start.norms_before_folding is not None:
        raise CrosscoderError("Training cannot start from a folded crosscoder: its scales are part of its weights.")


def start_record(start: CrossCoder) -> dict[str, object]:
    """What identifies the weights that a training started from, as plain values."""
    return {"revisions": list(start.origin.revisions), "sha256": digest_of(start.state_dict())}


@torch.no_grad()
def copy_weights(start: CrossCoder, crosscoder: CrossCoder) -> None:
    """Copy weights, biases and thresholds, which are on the scale of training; the scales stay those of the data."""
    target = crosscoder.state_dict()
    for name, tensor in start.state_dict().items():
        if name != "scales":
            target[name].copy_(tensor)
