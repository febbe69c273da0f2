"""Hyper-parameters of L1 training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from crosstime.errors import CrosscoderError
from crosstime.training.trainer_config import TrainerConfig

if TYPE_CHECKING:
    from crosstime.crosscoders.activation_functions import Activation


@dataclass(frozen=True)
class L1Config(TrainerConfig):
    """Hyper-parameters of L1 training, in addition to those of `TrainerConfig`.

    Attributes:
        l1: final weight of the sparsity penalty.
        l1_warmup: fraction of the steps in which the weight rises linearly from 0.

    Raises:
        CrosscoderError: a value is out of range.

    Examples:
        >>> L1Config(n_features=1024, steps=500).l1
        2.0

    Source: CTT (arXiv 2509.05291), section 3.3.
    """

    l1: float = 2.0
    l1_warmup: float = 0.05

    kind: ClassVar[str] = "l1"
    title: ClassVar[str] = "L1"
    sparsity_key: ClassVar[str] = "l1"
    trainer_class: ClassVar[str] = "crosstime.training.l1:L1Trainer"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_fractions("l1_warmup")
        if self.l1 < 0:
            raise CrosscoderError(f"l1 must not be negative; got {self.l1}.")

    def activation(self) -> Activation:
        """See `TrainerConfig.activation`."""
        from crosstime.crosscoders.activation_functions import ReLU

        return ReLU()
