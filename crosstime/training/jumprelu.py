"""JumpReLU crosscoders: configuration, and trainer with learned thresholds and a tanh sparsity penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, JumpReLU
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.machine.processes import ALONE, Processes
from crosstime.training.direction_norms import total_norms
from crosstime.training.trainer import (
    ForwardPass,
    Losses,
    Trainer,
    TrainerConfig,
    mean_l0,
    squared_error,
    warmed_up,
)


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
    """

    sparsity: float = 2.0
    sparsity_warmup: float = 1.0
    steepness: float = 4.0
    threshold: float = 0.01
    bandwidth: float = 0.1

    kind: ClassVar[str] = "jumprelu"
    title: ClassVar[str] = "JumpReLU"
    sparsity_key: ClassVar[str] = "sparsity"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("steepness", "threshold", "bandwidth")
        self.check_fractions("sparsity_warmup")
        if self.sparsity < 0:
            raise CrosscoderError(f"sparsity must not be negative; got {self.sparsity}.")

    def activation(self) -> Activation:
        """See `TrainerConfig.activation`."""
        return JumpReLU(self.n_features, threshold=self.threshold, bandwidth=self.bandwidth)

    def trainer(self, crosscoder: CrossCoder, *, processes: Processes = ALONE, precision: str = "float32") -> Trainer:
        """See `TrainerConfig.trainer`."""
        return JumpReLUTrainer(crosscoder, self, processes=processes, precision=precision)


class JumpReLUTrainer(Trainer):
    """Trains with a bounded, decoder-norm-weighted sparsity term, which does not shrink strong features.

    ::

        loss = mean over tokens of  sum_c ||s_c x_c - s_c x̂_c||²
                                    + sparsity * sum_i tanh( steepness * f_i sum_c ||W_dec[i, c]|| )

    Source: EoC (arXiv 2509.17196); Rajamanoharan et al. 2024 (arXiv 2407.14435).
    """

    settings: JumpReLUConfig

    def _forward(self, scaled: Float[Tensor, "B C D"], step: int) -> ForwardPass:
        # Encode and decode.
        crosscoder, settings = self.crosscoder, self.settings
        codes = crosscoder.encode_scaled(scaled)
        reconstruction = crosscoder.decode_scaled(codes)
        l2 = squared_error(scaled, reconstruction)

        # Add the sparsity term.
        saturated = torch.tanh(codes * (settings.steepness * total_norms(crosscoder.W_dec)))
        sparsity = self.shards.total(saturated.sum() / len(codes))
        loss = l2 + warmed_up(settings.sparsity, step, settings.sparsity_warmup * settings.steps) * sparsity
        losses = Losses(loss, l2.detach(), sparsity.detach(), self.shards.total(mean_l0(codes)))
        return ForwardPass(losses, codes.detach().amax(0) > 0, reconstruction, codes)
