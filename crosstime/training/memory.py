"""Memory that training a crosscoder takes, compared with what there is before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from crosstime.errors import CrosscoderError
from crosstime.machine.memory import device_memory, in_bytes
from crosstime.training.trainer_config import TrainerConfig

BYTES_PER_WEIGHT = 16
"""Bytes of a float32 weight in training: itself, its gradient, and the two moments of Adam."""

FLOAT_BYTES = 4


def training_bytes(n_features: int, n_checkpoints: int, d_model: int) -> int:
    """Bytes of encoder and decoder in training, ``16 x 2 C D F``; see `batch_bytes` for batches.

    Examples:
        >>> training_bytes(16_384, 3, 2_048)
        3221225472
    """
    return BYTES_PER_WEIGHT * 2 * n_checkpoints * d_model * n_features


def batch_bytes(
    config: TrainerConfig, n_checkpoints: int, d_model: int, rows: float | int, feature_shards: int = 1
) -> float:
    """Bytes of a batch in a step: its codes and activations, with their gradients.

    ::

        4 bytes x rows x (4 F / R + 8 C D)      with a gate per checkpoint, 6 C F / R in place of 4 F / R

    Args:
        config: kind and size of the dictionary.
        n_checkpoints, d_model: C and D.
        rows: rows of the batch that a process takes.
        feature_shards: R.

    Examples:
        >>> from crosstime.training.l1_config import L1Config
        >>> batch_bytes(L1Config(n_features=16_384), 3, 2_048, rows=4_096)
        1879048192.0
    """
    codes = 6 * n_checkpoints if config.activation().gate_per_checkpoint else 4
    return FLOAT_BYTES * rows * (codes * config.n_features / feature_shards + 8 * n_checkpoints * d_model)


def refuse_too_large(
    configs: Sequence[TrainerConfig], n_checkpoints: int, d_model: int, device: torch.device, feature_shards: int = 1
) -> None:
    """Refuse dictionaries whose weights, gradients and moments alone exceed the memory of the device.

    With feature shards, every process needs memory for its own features; on a CPU, the processes of one machine share
    its memory, which is not compared, since they may run on several machines.

    Raises:
        CrosscoderError: says how much it needs, and how much there is.
    """
    n_features = sum(config.n_features for config in configs)
    needed = training_bytes(n_features // feature_shards, n_checkpoints, d_model)
    available = device_memory(device)
    if needed > available:
        largest = available // training_bytes(1, n_checkpoints, d_model)
        together = f" in {len(configs)} crosscoders" if len(configs) > 1 else ""
        raise CrosscoderError(
            f"n_features: training {n_features:,} features{together} of {n_checkpoints} checkpoints of width "
            f"{d_model:,} takes {in_bytes(needed)}, and {device} has {in_bytes(available)}: take {largest:,} features "
            "or fewer."
        )
