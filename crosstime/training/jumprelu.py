"""JumpReLU crosscoders: the trainer with learned thresholds and a tanh sparsity penalty."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.training.direction_norms import total_norms
from crosstime.training.jumprelu_config import JumpReLUConfig
from crosstime.training.trainer import (
    ForwardPass,
    Losses,
    Trainer,
    mean_l0,
    squared_error,
    warmed_up,
)


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
