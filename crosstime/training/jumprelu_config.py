"""Hyper-parameters of JumpReLU training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from crosstime.errors import CrosscoderError
from crosstime.training.trainer_config import TrainerConfig

if TYPE_CHECKING:
    from crosstime.crosscoders.activation_functions import Activation


@dataclass(frozen=True)
class JumpReLUConfig(TrainerConfig):
    """Hyper-parameters of JumpReLU training, in addition to those of `TrainerConfig`.

    Attributes:
        sparsity: final weight of the sparsity term: the cost of one active feature, in units of squared error.
        sparsity_warmup: fraction of the steps in which the weight rises linearly from 0.
        steepness: steepness of tanh: norm-weighted codes above 1 / steepness cost almost as much as any.
        threshold: initial threshold of every feature, on norm-weighted codes.
        bandwidth: width of the window around the threshold in which thresholds receive gradients, on norm-weighted
            codes.

    Raises:
        CrosscoderError: a value is out of range.

    Examples:
        >>> JumpReLUConfig(n_features=1024, steps=500).sparsity_warmup <= 1
        True

    Source: Rajamanoharan et al. 2024 (arXiv 2407.14435) for JumpReLU.
    """

    sparsity: float = 2.0
    sparsity_warmup: float = 1.0
    steepness: float = 4.0
    threshold: float = 0.01
    bandwidth: float = 0.1

    kind: ClassVar[str] = "jumprelu"
    title: ClassVar[str] = "JumpReLU"
    sparsity_key: ClassVar[str] = "sparsity"
    trainer_class: ClassVar[str] = "crosstime.training.jumprelu:JumpReLUTrainer"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("steepness", "threshold", "bandwidth")
        self.check_fractions("sparsity_warmup")
        if self.sparsity < 0:
            raise CrosscoderError(f"sparsity must not be negative; got {self.sparsity}.")

    def activation(self) -> Activation:
        """See `TrainerConfig.activation`."""
        from crosstime.crosscoders.activation_functions import JumpReLU

        return JumpReLU(self.n_features, threshold=self.threshold, bandwidth=self.bandwidth)
