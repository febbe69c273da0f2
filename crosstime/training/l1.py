"""L1 crosscoders: configuration, and trainer with a decoder-norm-weighted L1 penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, ReLU
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
class L1Config(TrainerConfig):
    """Hyper-parameters of L1 training, in addition to those of `TrainerConfig`.

    Attributes:
        l1: final weight of the sparsity penalty.
        l1_warmup: fraction of the steps in which the weight rises linearly from 0.
    """

    l1: float = 2.0
    l1_warmup: float = 0.05

    kind: ClassVar[str] = "l1"
    title: ClassVar[str] = "L1"
    sparsity_key: ClassVar[str] = "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_fractions("l1_warmup")
        if self.l1 < 0:
            raise CrosscoderError(f"l1 must not be negative; got {self.l1}.")

    def activation(self) -> Activation:
        """See `TrainerConfig.activation`."""
        return ReLU()

    def trainer(self, crosscoder: CrossCoder, *, processes: Processes = ALONE, precision: str = "float32") -> Trainer:
        """See `TrainerConfig.trainer`."""
        return L1Trainer(crosscoder, self, processes=processes, precision=precision)


class L1Trainer(Trainer):
    """Trains a crosscoder with reconstruction error plus a decoder-norm-weighted L1 penalty.

    ::

        loss = mean over tokens of  sum_c ||s_c x_c - s_c x̂_c||² + l1 * sum_i f_i sum_c ||W_dec[i, c]||

    Examples:
        >>> from crosstime.crosscoders.crosscoder import CrossCoder
        >>> from crosstime.crosscoders.origin import Origin
        >>> from interventions import Site
        >>> crosscoder = CrossCoder(Origin("tiny", ("a", "b"), Site(0), 8), 16)
        >>> trainer = L1Trainer(crosscoder, L1Config(n_features=16, steps=10))
        >>> bool(trainer.update(0, torch.randn(32, 2, 8)) > 0)
        True

    Source: CTT (arXiv 2509.05291), section 3.1; Lindsey et al. 2024.
    """

    settings: L1Config

    def _forward(self, scaled: Float[Tensor, "B C D"], step: int) -> ForwardPass:
        # Encode and decode.
        crosscoder, settings = self.crosscoder, self.settings
        codes = crosscoder.pre_scaled(scaled).relu_()
        reconstruction = crosscoder.decode_scaled(codes)
        l2 = squared_error(scaled, reconstruction)

        # The penalty is linear in the codes, so their means over tokens are enough.
        mean_codes = codes.mean(0, dtype=crosscoder.W_dec.dtype)
        sparsity = self.shards.total(mean_codes @ total_norms(crosscoder.W_dec))
        loss = l2 + warmed_up(settings.l1, step, settings.l1_warmup * settings.steps) * sparsity
        losses = Losses(loss, l2.detach(), sparsity.detach(), self.shards.total(mean_l0(codes)))
        return ForwardPass(losses, mean_codes.detach() > 0, reconstruction, codes)
