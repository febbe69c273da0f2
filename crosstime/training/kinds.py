"""The kinds of crosscoder that can be trained, by name."""

from __future__ import annotations

from crosstime.errors import CrosscoderError
from crosstime.training.jumprelu_config import JumpReLUConfig
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from crosstime.training.l1_config import L1Config
from crosstime.training.topk_config import BatchTopKConfig, TopKConfig
from crosstime.training.trainer_config import TrainerConfig
from user_input.nearest import nearest

KINDS: dict[str, type[TrainerConfig]] = {
    config.kind: config
    for config in (L1Config, TopKConfig, BatchTopKConfig, JumpReLUConfig, PerCheckpointJumpReLUConfig)
}
"""Configuration class of each kind, which makes its activation function and its trainer."""


def kind_named(name: str) -> type[TrainerConfig]:
    """The configuration class of a kind.

    Raises:
        CrosscoderError: there is no such kind.

    Examples:
        >>> kind_named("topk")(n_features=64, k=4).k
        4
    """
    if name not in KINDS:
        raise CrosscoderError(f"There is no kind of crosscoder {name!r}: {nearest(name, KINDS)}")
    return KINDS[name]
