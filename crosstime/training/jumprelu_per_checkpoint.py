"""JumpReLU crosscoders with a gate per checkpoint: the objective of *Evolution of Concepts* as its code has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from crosstime.crosscoders.activation_functions import Activation, PerCheckpointJumpReLU, refuse_shared
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.feature_shard import FeatureShard
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.processes import ALONE, Processes
from crosstime.training.direction_norms import direction_norms
from crosstime.training.search_decoder_norm import search_decoder_norm
from crosstime.training.trainer import (
    ForwardPass,
    Losses,
    Trainer,
    TrainerConfig,
    mean_l0,
    squared_error,
    warmed_up,
)
from user_input.nearest import nearest

PENALTIES = ("tanh", "tanh-quad")
"""Sparsity terms of `PerCheckpointJumpReLUTrainer`."""


@dataclass(frozen=True)
class PerCheckpointJumpReLUConfig(TrainerConfig):
    """Hyper-parameters of EoC's objective, in addition to those of `TrainerConfig`; the defaults are for Pythia-160M.

    Sources: llamascopium 2.0.0b34 ("L") and the scripts of the paper ("S",
    github.com/OpenMOSS/Language-Model-SAEs, examples/reproduce_evolution_of_concepts).

    Attributes:
        n_features: F; 32 D (S, README).
        steps: 800 million tokens in batches of 2,048 (S, README and train_pythia_crosscoder.py).
        lr: 5e-5 (S, README).
        lr_warmup: 5,000 of 390,625 steps, as a fraction (L, trainer.py, `TrainerConfig.lr_warm_up_steps`).
        lr_decay: fraction of the steps, at the end, in which the learning rate falls linearly to `lr_end` (L,
            trainer.py, `TrainerConfig.lr_cool_down_steps`).
        lr_end: the learning rate at the end, as a fraction of `lr` (L, trainer.py, `TrainerConfig.lr_end_ratio`).
        clip: 0, which leaves gradients as they are (L, trainer.py, `TrainerConfig.clip_grad_norm`).
        sparsity: final weight of the sparsity term (S, README, ``l1_coefficient``).
        sparsity_warmup: fraction of the steps in which the weight rises linearly from 0 (L, trainer.py,
            `TrainerConfig.l1_coefficient_warmup_steps`).
        penalty: the sparsity term, one of `PENALTIES` (S, train_pythia_crosscoder.py, ``sparsity_loss_type``).
        steepness: of tanh (L, trainer.py, `TrainerConfig.tanh_stretch_coefficient`).
        frequency_scale: of ``tanh-quad`` (L, trainer.py, `TrainerConfig.frequency_scale`).
        threshold: initial threshold of every feature (S, train_pythia_crosscoder.py,
            ``init_log_jumprelu_threshold_value=math.log(0.1)``).
        bandwidth: width of the window around the threshold (S, train_pythia_crosscoder.py,
            ``jumprelu_threshold_window``).
        threshold_lr_factor: learning rate of the thresholds, as a fraction of `lr` (S, README,
            ``jumprelu_lr_factor``: 0.1 for Pythia-160M, 0.3 for Pythia-6.9B).
        norm_search: whether step 0 begins with `search_decoder_norm`, which replaces `decoder_norm` (S,
            train_pythia_crosscoder.py, ``grid_search_init_norm=True``).

    Raises:
        CrosscoderError: a value is out of range, there is no such penalty, or features are shared.
    """

    n_features: int = 24_576
    steps: int = 390_625
    lr: float = 5e-5
    lr_warmup: float = 0.0128
    lr_end: float = 1 / 32
    clip: float = 0.0
    sparsity: float = 0.3
    sparsity_warmup: float = 0.1
    penalty: str = "tanh-quad"
    steepness: float = 4.0
    frequency_scale: float = 0.01
    threshold: float = 0.1
    bandwidth: float = 4.0
    threshold_lr_factor: float = 0.1
    norm_search: bool = True

    kind: ClassVar[str] = "jumprelu_per_checkpoint"
    title: ClassVar[str] = "JumpReLU per checkpoint"
    sparsity_key: ClassVar[str] = "sparsity"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("steepness", "frequency_scale", "threshold", "bandwidth")
        self.check_fractions("sparsity_warmup")
        if not 0 <= self.lr_end <= 1:
            raise CrosscoderError(f"lr_end is a fraction of lr between 0 and 1, not {self.lr_end}.")
        for name in ("sparsity", "threshold_lr_factor"):
            if getattr(self, name) < 0:
                raise CrosscoderError(f"{name} must not be negative; got {getattr(self, name)}.")
        if self.penalty not in PENALTIES:
            raise CrosscoderError(
                f"Kind {self.kind} has no penalty {self.penalty!r}: {nearest(self.penalty, PENALTIES)}"
            )
        refuse_shared(self.activation(), self.n_shared)

    def lr_factor(self, step: int) -> float:
        """See `TrainerConfig.lr_factor`; the learning rate ends at `lr_end` (L, optim.py, `get_scheduler`)."""
        warmup, decay = self.lr_warmup_steps, self.lr_decay * self.steps
        rising = (step + 1) / warmup if warmup else 1.0
        remaining = max(self.steps - step, 1) / decay if decay else 1.0
        return min(1.0, rising, self.lr_end + (1 - self.lr_end) * remaining)

    def activation(self) -> Activation:
        """See `TrainerConfig.activation`."""
        return PerCheckpointJumpReLU(self.n_features, threshold=self.threshold, bandwidth=self.bandwidth)

    def trainer(self, crosscoder: CrossCoder, *, processes: Processes = ALONE, precision: str = "float32") -> Trainer:
        """See `TrainerConfig.trainer`."""
        return PerCheckpointJumpReLUTrainer(crosscoder, self, processes=processes, precision=precision)

    def crosscoder(
        self, origin: Origin, scales: Float[Tensor, " C"] | None = None, *, shard: FeatureShard | None = None
    ) -> CrossCoder:
        """See `TrainerConfig.crosscoder`; a feature begins with the same direction at every checkpoint.

        Directions are uniform in the cube, and scaled to `decoder_norm`; the encoder is the transpose of the decoder
        (L, models/crosscoder.py, `Crosscoder.init_parameters`).
        """
        crosscoder = super().crosscoder(origin, scales, shard=shard)
        generator = torch.Generator().manual_seed(self.seed)
        directions = torch.rand(self.n_features, origin.d_model, generator=generator) * 2 - 1
        directions *= self.decoder_norm / directions.norm(dim=-1, keepdim=True)
        directions = directions[crosscoder.shard.start : crosscoder.shard.stop]
        with torch.no_grad():
            crosscoder.W_dec.copy_(repeat(directions, "f d -> f c d", c=crosscoder.n_checkpoints))
            crosscoder.W_enc.copy_(rearrange(crosscoder.W_dec, "f c d -> c d f"))
        return crosscoder


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
