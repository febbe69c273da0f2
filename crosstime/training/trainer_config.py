"""Hyper-parameters that all kinds of crosscoder have. Configurations can be read and checked without PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar

from crosstime.errors import CrosscoderError
from user_input.nearest import nearest

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from crosstime.crosscoders.activation_functions import Activation
    from crosstime.crosscoders.crosscoder import CrossCoder
    from crosstime.crosscoders.feature_shard import FeatureShard
    from crosstime.crosscoders.origin import Origin

PRECISIONS = ("float32", "bfloat16")
"""Precisions of the large matrix products of a step. Weights, optimiser and sums are always float32."""

FROZEN = {"encoder": "W_enc", "decoder": "W_dec"}
"""Weights that a training can leave as they were initialised."""


@dataclass(frozen=True)
class TrainerConfig(ABC):
    """Hyper-parameters that all kinds have; the defaults are CTT's (section 3.3 and its released settings).

    Attributes:
        n_features: F, the size of the dictionary.
        steps: number of optimiser steps.
        lr: learning rate of Adam(0.9, 0.999).
        lr_warmup: steps at the start in which the learning rate rises linearly from 0: a fraction of all steps up to 1,
            a number of steps above.
        lr_decay: fraction of the steps, at the end, in which the learning rate falls linearly to 0.
        clip: maximum norm of the gradient; 0 does not clip.
        n_shared: number of features with one decoder direction for all checkpoints.
        decoder_norm: norm of the decoder directions at initialisation.
        seed: seed of the initialisation.
        frozen: ``encoder`` or ``decoder``: these weights stay as they were initialised, at random, and everything else
            is trained; None trains all. A baseline for what a crosscoder learns.

    Raises:
        CrosscoderError: a value is out of range.
    """

    n_features: int = 16_384
    steps: int = 100_000
    lr: float = 5e-5
    lr_warmup: float = 0.0
    lr_decay: float = 0.2
    clip: float = 1.0
    n_shared: int = 0
    decoder_norm: float = 0.08
    seed: int = 124
    frozen: str | None = None

    kind: ClassVar[str]
    """Name of the kind in recipes and on the command line."""
    title: ClassVar[str]
    """Name of the kind in tables."""
    sparsity_key: ClassVar[str]
    """Name of the hyper-parameter that sets the sparsity."""
    trainer_class: ClassVar[str]
    """Class of the kind's trainer, ``module:class``, which `trainer_of` imports."""

    def __post_init__(self) -> None:
        self.check_positive("n_features", "steps", "lr", "decoder_norm")
        self.check_fractions("lr_decay")
        if self.clip < 0:
            raise CrosscoderError(f"clip must be a norm, or 0 to leave gradients as they are, not {self.clip}.")
        if not (0 <= self.lr_warmup <= 1 or (self.lr_warmup > 1 and float(self.lr_warmup).is_integer())):
            raise CrosscoderError(
                f"lr_warmup is a fraction of the steps from 0 to 1, or a whole number of them, not {self.lr_warmup}."
            )
        if not 0 <= self.n_shared <= self.n_features:
            raise CrosscoderError(
                f"n_shared must be between 0 and n_features ({self.n_features}), not {self.n_shared}."
            )
        if self.frozen is not None and self.frozen not in FROZEN:
            raise CrosscoderError(f"frozen: {self.frozen!r} cannot be frozen: {nearest(self.frozen, FROZEN)}")

    def record(self) -> dict[str, object]:
        """The hyper-parameters as plain values, without `frozen` where nothing is frozen.

        Records of earlier versions do not have this key.

        Examples:
            >>> from crosstime.training.l1_config import L1Config
            >>> "frozen" in L1Config().record(), L1Config(frozen="decoder").record()["frozen"]
            (False, 'decoder')
        """
        values = asdict(self)
        return {name: value for name, value in values.items() if name != "frozen" or value is not None}

    @abstractmethod
    def activation(self) -> Activation:
        """The activation function that this kind trains."""

    def crosscoder(
        self, origin: Origin, scales: Float[Tensor, " C"] | None = None, *, shard: FeatureShard | None = None
    ) -> CrossCoder:
        """A newly initialised crosscoder of this kind and size.

        Args:
            origin: checkpoints, site and width.
            scales: s_c; ones if None.
            shard: the features that this process holds; None for all.
        """
        from crosstime.crosscoders.crosscoder import CrossCoder

        return CrossCoder(
            origin,
            self.n_features,
            scales,
            activation=self.activation(),
            n_shared=self.n_shared,
            decoder_norm=self.decoder_norm,
            seed=self.seed,
            shard=shard,
        )

    def summary(self) -> str:
        """The kind and the value of its sparsity hyper-parameter.

        Examples:
            >>> from crosstime.training.l1_config import L1Config
            >>> L1Config(l1=0.5).summary()
            'L1 0.5'
        """
        return f"{self.title} {getattr(self, self.sparsity_key):g}"

    def check_positive(self, *names: str) -> None:
        """Reject attributes that are not positive."""
        for name in names:
            if not getattr(self, name) > 0:
                raise CrosscoderError(f"{name} must be positive, not {getattr(self, name)}.")

    def check_fractions(self, *names: str) -> None:
        """Reject attributes that are not between 0 and 1."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise CrosscoderError(f"{name} is a fraction of the steps between 0 and 1, not {getattr(self, name)}.")

    @property
    def lr_warmup_steps(self) -> float:
        """Number of steps in which the learning rate rises."""
        return self.lr_warmup * self.steps if self.lr_warmup <= 1 else self.lr_warmup

    def lr_factor(self, step: int) -> float:
        """The learning rate at a step, as a fraction of `lr`."""
        warmup, decay = self.lr_warmup_steps, self.lr_decay * self.steps
        rising = (step + 1) / warmup if warmup else 1.0
        return max(0.0, min(1.0, rising, (self.steps - step) / decay if decay else 1.0))
