"""L1 crosscoders: the trainer with a decoder-norm-weighted L1 penalty."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from crosstime.training.direction_norms import total_norms
from crosstime.training.l1_config import L1Config
from crosstime.training.trainer import (
    ForwardPass,
    Losses,
    Trainer,
    mean_l0,
    squared_error,
    warmed_up,
)


class L1Trainer(Trainer):
    """Trains a crosscoder with reconstruction error plus a decoder-norm-weighted L1 penalty.

    ::

        loss = mean over tokens of  sum_c ||s_c x_c - s_c x̂_c||² + l1 * sum_i f_i sum_c ||W_dec[i, c]||

    Examples:
        >>> import torch
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
