"""JumpReLU crosscoders with a gate per checkpoint: the objective of *Evolution of Concepts* as its code has it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crosstime.training.direction_norms import direction_norms
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from crosstime.training.search_decoder_norm import search_decoder_norm
from crosstime.training.trainer import (
    ForwardPass,
    Losses,
    Trainer,
    mean_l0,
    squared_error,
    warmed_up,
)


class PerCheckpointJumpReLUTrainer(Trainer):
    """Trains with the error and the sparsity term of *Evolution of Concepts*, both means over tokens and checkpoints.

    With ``z_ic = f_ic ||W_dec[i, c]||`` and q_i the mean of ``tanh(steepness z_ic)`` over tokens and checkpoints::

        loss      = mean over tokens and checkpoints of  ||s_c x_c - s_c x̂_c||²  + sparsity * penalty
        tanh      : penalty = sum_i q_i
        tanh-quad : penalty = sum_i q_i (1 + q_i / frequency_scale)

    The term presses ``f_ic ||W_dec[i, c]||`` to zero at each checkpoint on its own. With several processes, q_i is the
    mean over the whole batch.

    Their encoder has a bias for each checkpoint, of which only the sum is ever read. All C of them receive the same
    gradient, so that Adam moves the sum C times as fast as one bias: here the learning rate of ``b_enc`` is C times lr.

    Source: EoC (arXiv 2509.17196); llamascopium 2.0.0b34, ``models/crosscoder.py`` (`Crosscoder.encode`),
    ``models/sparse_dictionary.py`` (`SparseDictionary.compute_loss`) and ``trainer.py``
    (`Trainer._initialize_optimizer`). In that version, `compute_loss` stops with an error for ``tanh-quad``: it asks
    `TensorSpecs.loss` for the axes of a number.
    """

    settings: PerCheckpointJumpReLUConfig

    def update(self, step: int, x: Float[Tensor, "B C D"]) -> Float[Tensor, ""]:
        """See `Trainer.update`; step 0 begins with the search for the decoder norm."""
        if step == 0 and self.settings.norm_search:
            search_decoder_norm(self, x)
        return super().update(step, x)

    def error(self, scaled: Float[Tensor, "B C D"], reconstruction: Float[Tensor, "B C D"]) -> Float[Tensor, ""]:
        """``||s_c x_c - s_c x̂_c||²``, mean over tokens and checkpoints."""
        return squared_error(scaled, reconstruction) / scaled.shape[1]

    def _parameter_groups(self) -> list[tuple[float, list[nn.Parameter]]]:
        crosscoder = self.crosscoder
        thresholds = list(crosscoder.activation.parameters())
        return [
            (1.0, [crosscoder.W_dec, crosscoder.W_enc, crosscoder.b_dec]),
            (float(crosscoder.n_checkpoints), [crosscoder.b_enc]),
            (self.settings.threshold_lr_factor, thresholds),
        ]

    def _forward(self, scaled: Float[Tensor, "B C D"], step: int) -> ForwardPass:
        # Encode and decode.
        crosscoder, settings = self.crosscoder, self.settings
        codes = crosscoder.encode_scaled(scaled)
        reconstruction = crosscoder.decode_scaled(codes)
        l2 = self.error(scaled, reconstruction)

        # Add the sparsity term.
        norms = direction_norms(crosscoder.W_dec).T
        sparsity = self.shards.total(self._penalty(torch.tanh(codes * (settings.steepness * norms))))
        loss = l2 + warmed_up(settings.sparsity, step, settings.sparsity_warmup * settings.steps) * sparsity
        losses = Losses(loss, l2.detach(), sparsity.detach(), self.shards.total(mean_l0(codes)))
        return ForwardPass(losses, codes.detach().amax((0, 1)) > 0, reconstruction, codes)

    def _penalty(self, scores: Float[Tensor, "B C F"]) -> Float[Tensor, ""]:
        frequency = scores.mean((0, 1), dtype=self.crosscoder.W_dec.dtype)
        if self.settings.penalty == "tanh":
            return frequency.sum()
        scale, processes = self.settings.frequency_scale, self.processes
        if processes.size == 1:
            return (frequency * (1 + frequency / scale)).sum()

        # The frequency over all processes, and gradients that are right once they are averaged over the processes.
        overall = frequency.detach().clone()
        processes.mean_(overall)
        slope = 1 + 2 * overall / scale
        return (overall * (1 + overall / scale)).sum() + (slope * (frequency - frequency.detach())).sum()
