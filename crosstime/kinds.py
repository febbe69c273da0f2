"""The kinds of crosscoder that can be trained, by name."""

from __future__ import annotations

from crosstime.errors import CrosscoderError
from crosstime.jumprelu_trainer import JumpReLUConfig
from crosstime.l1_trainer import L1Config
from crosstime.topk_trainer import BatchTopKConfig, TopKConfig
from crosstime.trainer import TrainerConfig
from tasks.errors import nearest

KINDS: dict[str, type[TrainerConfig]] = {
    config.kind: config for config in (L1Config, TopKConfig, BatchTopKConfig, JumpReLUConfig)
}
"""Configuration of each kind; it knows its activation function and its trainer."""


def kind_named(name: str) -> type[TrainerConfig]:
    """Configuration class of a kind.

    Raises:
        CrosscoderError: there is no such kind.

    Examples:
        >>> kind_named("topk")(n_features=64, k=4).k
        4
    """
    if name not in KINDS:
        raise CrosscoderError(f"There is no kind of crosscoder {name!r}: {nearest(name, KINDS)}")
    return KINDS[name]
