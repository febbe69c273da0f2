"""Hyper-parameters of JumpReLU training with a gate per checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from crosstime.errors import CrosscoderError
from crosstime.training.trainer_config import TrainerConfig
from user_input.nearest import nearest

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from crosstime.crosscoders.activation_functions import Activation
    from crosstime.crosscoders.crosscoder import CrossCoder
    from crosstime.crosscoders.feature_shard import FeatureShard
    from crosstime.crosscoders.origin import Origin

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

    Examples:
        >>> PerCheckpointJumpReLUConfig(n_features=1024, steps=500).clip
        0.0
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
    trainer_class: ClassVar[str] = "crosstime.training.jumprelu_per_checkpoint:PerCheckpointJumpReLUTrainer"

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
        if self.n_shared:
            from crosstime.crosscoders.activation_functions import refuse_shared

            refuse_shared(self.activation(), self.n_shared)

    def lr_factor(self, step: int) -> float:
        """See `TrainerConfig.lr_factor`; the learning rate ends at `lr_end` (L, optim.py, `get_scheduler`)."""
        warmup, decay = self.lr_warmup_steps, self.lr_decay * self.steps
        rising = (step + 1) / warmup if warmup else 1.0
        remaining = max(self.steps - step, 1) / decay if decay else 1.0
        return min(1.0, rising, self.lr_end + (1 - self.lr_end) * remaining)

    def activation(self) -> Activation:
        """See `TrainerConfig.activation`."""
        from crosstime.crosscoders.activation_functions import PerCheckpointJumpReLU

        return PerCheckpointJumpReLU(self.n_features, threshold=self.threshold, bandwidth=self.bandwidth)

    def crosscoder(
        self, origin: Origin, scales: Float[Tensor, " C"] | None = None, *, shard: FeatureShard | None = None
    ) -> CrossCoder:
        """See `TrainerConfig.crosscoder`; a feature begins with the same direction at every checkpoint.

        Directions are uniform in the cube, and scaled to `decoder_norm`; the encoder is the transpose of the decoder
        (L, models/crosscoder.py, `Crosscoder.init_parameters`).
        """
        import torch
        from einops import rearrange, repeat

        crosscoder = super().crosscoder(origin, scales, shard=shard)
        generator = torch.Generator().manual_seed(self.seed)
        directions = torch.rand(self.n_features, origin.d_model, generator=generator) * 2 - 1
        directions *= self.decoder_norm / directions.norm(dim=-1, keepdim=True)
        directions = directions[crosscoder.shard.start : crosscoder.shard.stop]
        with torch.no_grad():
            crosscoder.W_dec.copy_(repeat(directions, "f d -> f c d", c=crosscoder.n_checkpoints))
            crosscoder.W_enc.copy_(rearrange(crosscoder.W_dec, "f c d -> c d f"))
        return crosscoder
