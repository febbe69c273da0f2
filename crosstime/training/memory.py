"""Memory that training a crosscoder takes, compared with what there is before anything is computed."""

from __future__ import annotations

import torch

from crosstime.errors import CrosscoderError
from crosstime.machine.memory import device_memory, in_bytes
from crosstime.training.trainer_config import TrainerConfig

BYTES_PER_WEIGHT = 16
"""Bytes of a float32 weight in training: itself, its gradient, and the two moments of Adam."""


def training_bytes(n_features: int, n_checkpoints: int, d_model: int) -> int:
    """Bytes of encoder and decoder in training, ``16 x 2 C D F``; batches and the buffer come on top.

    Examples:
        >>> training_bytes(16_384, 3, 2_048)
        3221225472
    """
    return BYTES_PER_WEIGHT * 2 * n_checkpoints * d_model * n_features


def refuse_too_large(
    config: TrainerConfig, n_checkpoints: int, d_model: int, device: torch.device, feature_shards: int = 1
) -> None:
    """Refuse a dictionary whose weights, gradients and moments alone exceed the memory of the device.

    With feature shards, every process needs memory for its own features; on a CPU, the processes of one machine share
    its memory, which is not compared, since they may run on several machines.

    Raises:
        CrosscoderError: says how much it needs, and how much there is.
    """
    needed = training_bytes(config.n_features // feature_shards, n_checkpoints, d_model)
    available = device_memory(device)
    if needed > available:
        largest = available // training_bytes(1, n_checkpoints, d_model)
        raise CrosscoderError(
            f"n_features: training {config.n_features:,} features of {n_checkpoints} checkpoints of width {d_model:,} "
            f"takes {in_bytes(needed)}, and {device} has {in_bytes(available)}: take {largest:,} features or fewer."
        )
