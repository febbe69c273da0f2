"""What every crosscoder trainer does, in the manner of dictionary_learning: `loss`, `update`, `config`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.processes import ALONE, Processes
from user_input.nearest import nearest

DEAD_AFTER = 100_000
"""Tokens without firing after which a feature counts as dead in the log."""

PRECISIONS = ("float32", "bfloat16")
"""In what the large matrix products of a step can be done; weights, optimiser and sums are float32 always."""

_COUNTED = 256


@dataclass(frozen=True)
class TrainerConfig(ABC):
    """Hyper-parameters that all kinds have; the defaults are CTT's (section 3.3 and its released settings).

    Attributes:
        n_features: F, the size of the dictionary.
        steps: optimiser steps.
        lr: learning rate of Adam(0.9, 0.999).
        lr_warmup: share of the steps, at the start, in which the rate rises linearly from 0.
        lr_decay: share of the steps, at the end, in which the rate falls linearly to 0.
        clip: largest norm of the gradient.
        n_shared: features with one decoder direction for all checkpoints.
        decoder_norm: norm of the decoder directions at the start.
        seed: of the initialisation.

    Raises:
        CrosscoderError: a number out of range.
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

    kind: ClassVar[str]
    title: ClassVar[str]
    knob: ClassVar[str]

    def __post_init__(self) -> None:
        self.check_positive("n_features", "steps", "lr", "clip", "decoder_norm")
        self.check_shares("lr_warmup", "lr_decay")
        if not 0 <= self.n_shared <= self.n_features:
            raise CrosscoderError(
                f"n_shared must be between 0 and n_features ({self.n_features}), not {self.n_shared}."
            )

    @abstractmethod
    def activation(self) -> Activation:
        """The activation function that this kind trains."""

    @abstractmethod
    def trainer(self, crosscoder: CrossCoder, *, processes: Processes = ALONE, precision: str = "float32") -> Trainer:
        """A trainer of this kind for a crosscoder; see `Trainer` for the arguments."""

    def crosscoder(self, origin: Origin, scales: Float[Tensor, " C"] | None = None) -> CrossCoder:
        """A newly initialised crosscoder of this kind and size.

        Args:
            origin: checkpoints, site and width.
            scales: s_c; ones if None.
        """
        return CrossCoder(
            origin,
            self.n_features,
            scales,
            activation=self.activation(),
            n_shared=self.n_shared,
            decoder_norm=self.decoder_norm,
            seed=self.seed,
        )

    def summary(self) -> str:
        """Kind and what sets its sparsity, in two words.

        Examples:
            >>> from crosstime.training.l1 import L1Config
            >>> L1Config(l1=0.5).summary()
            'L1 0.5'
        """
        return f"{self.title} {getattr(self, self.knob):g}"

    def check_positive(self, *names: str) -> None:
        """Refuse what is not above zero."""
        for name in names:
            if not getattr(self, name) > 0:
                raise CrosscoderError(f"{name} must be positive, not {getattr(self, name)}.")

    def check_shares(self, *names: str) -> None:
        """Refuse what is not a share."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise CrosscoderError(f"{name} is a share of the steps between 0 and 1, not {getattr(self, name)}.")

    def lr_factor(self, step: int) -> float:
        """Share of the learning rate at a step."""
        warmup, decay = self.lr_warmup * self.steps, self.lr_decay * self.steps
        rising = (step + 1) / warmup if warmup else 1.0
        return max(0.0, min(1.0, rising, (self.steps - step) / decay if decay else 1.0))


@dataclass(frozen=True)
class Losses:
    """One batch's loss and its parts, means over tokens, as tensors.

    Attributes:
        loss: what is minimised.
        l2: ``sum_c ||s_c x_c - s_c x̂_c||²``.
        sparsity: the kind's second term before its weight: L1, tanh, or AuxK's error.
        l0: active features of a token.
    """

    loss: Float[Tensor, ""]
    l2: Float[Tensor, ""]
    sparsity: Float[Tensor, ""]
    l0: Float[Tensor, ""]

    def over(self, processes: Processes) -> Losses:
        """The means of all processes, without gradients."""
        parts = torch.stack([part.detach().float() for part in (self.loss, self.l2, self.sparsity, self.l0)])
        processes.mean_(parts)
        return Losses(*parts.unbind())


class LossLog(NamedTuple):
    """What dictionary_learning's log reads of a batch: activations, reconstruction, codes, parts of the loss.

    Activations and reconstruction are on the scale of training, ``B C D``.
    """

    x: Tensor
    x_hat: Tensor
    f: Tensor
    losses: dict[str, float]


@dataclass(frozen=True, eq=False)
class Measured:
    """One batch through a crosscoder in training.

    Attributes:
        losses: with gradients.
        fired: features that were active on some token.
        reconstruction: on the scale of training.
        codes: dense, or `Active`.
        cut: the smallest norm-weighted code that was kept, infinity if none; of kinds that choose the largest.
    """

    losses: Losses
    fired: Bool[Tensor, " F"]
    reconstruction: Float[Tensor, "B C D"]
    codes: Any
    cut: Float[Tensor, ""] | None = None


class Trainer(ABC):
    """Takes optimiser steps on a crosscoder; what is minimised is a subclass's.

    The objects that dictionary_learning's `trainSAE` drives: it builds each from a dictionary of arguments
    (``{"trainer": L1Trainer, "crosscoder": ..., "config": ...}``) and calls `update` on batch after batch.
    Activations come as ``B C D``, in the models' own scale; the crosscoder's scales are applied here.

    Args:
        crosscoder: what is trained, in place.
        config: the hyper-parameters.
        processes: those that take each step together, each on its own part of the batch (parts of one size).
        precision: of the matrix products, one of `PRECISIONS`.

    Attributes:
        crosscoder: what is trained (`ae` is the same object, under dictionary_learning's name).
        tokens_since_fired: per feature, tokens seen since it last was active.

    Raises:
        CrosscoderError: the crosscoder has another size or kind than the configuration, or there is no such precision.
    """

    def __init__(
        self,
        crosscoder: CrossCoder,
        config: TrainerConfig,
        *,
        processes: Processes = ALONE,
        precision: str = "float32",
    ) -> None:
        if precision not in PRECISIONS:
            raise CrosscoderError(f"There is no precision {precision!r}: {nearest(precision, PRECISIONS)}")
        if crosscoder.n_features != config.n_features:
            raise CrosscoderError(
                f"The trainer is for {config.n_features} features, the crosscoder has {crosscoder.n_features}."
            )
        wanted, found = config.activation().name, crosscoder.activation.name
        if wanted != found:
            raise CrosscoderError(f"A trainer of kind {config.kind} trains {wanted}, but the crosscoder has {found}.")
        if crosscoder.norms_before_folding is not None:
            raise CrosscoderError("A folded crosscoder cannot be trained: its scales are part of its weights.")
        self.crosscoder = self.ae = crosscoder
        self.settings, self.processes, self.precision = config, processes, precision
        self.wandb_name = type(self).__name__
        fused = all(parameter.device.type in ("cpu", "cuda") for parameter in crosscoder.parameters())
        self.optimizer = torch.optim.Adam(
            crosscoder.parameters(), lr=config.lr * config.lr_factor(0), betas=(0.9, 0.999), fused=fused
        )
        self.tokens_since_fired = torch.zeros(config.n_features, dtype=torch.long, device=crosscoder.W_dec.device)
        self.last_losses: Losses | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The hyper-parameters as plain values."""
        return {"trainer_class": type(self).__name__, "dict_class": "CrossCoder", **asdict(self.settings)}

    def get_logging_parameters(self) -> dict[str, float]:
        """Parts of the last loss and the share of features that did not fire for 100,000 tokens."""
        if self.last_losses is None:
            return {}
        return {
            "loss": self.last_losses.loss.item(),
            "l2": self.last_losses.l2.item(),
            "sparsity": self.last_losses.sparsity.item(),
            "l0": self.last_losses.l0.item(),
            "dead": (self.tokens_since_fired > DEAD_AFTER).double().mean().item(),
        }

    def losses(self, x: Float[Tensor, "B C D"], step: int) -> Losses:
        """Loss and parts of one batch at one step of the schedule."""
        return self._found(self._scaled(x), step).losses

    def loss(self, x: Float[Tensor, "B C D"], step: int, logging: bool = False) -> Float[Tensor, ""] | LossLog:
        """The loss to minimise, or what dictionary_learning logs if `logging`."""
        scaled = self._scaled(x)
        found = self._found(scaled, step)
        if not logging:
            return found.losses.loss
        codes = found.codes if isinstance(found.codes, Tensor) else found.codes.dense()
        parts = {name: getattr(found.losses, name).item() for name in ("loss", "l2", "sparsity")}
        return LossLog(scaled, found.reconstruction, codes, parts)

    def update(self, step: int, x: Float[Tensor, "B C D"]) -> Float[Tensor, ""]:
        """One optimiser step on a batch; gives its loss, as a tensor, so that no device is waited for."""
        self.crosscoder.train()
        found = self._found(self._scaled(x), step)
        self.optimizer.zero_grad(set_to_none=True)
        found.losses.loss.backward()
        parameters = list(self.crosscoder.parameters())
        self.processes.mean_(*(parameter.grad for parameter in parameters))
        self.crosscoder.tie_gradients()
        torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        self.optimizer.step()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * self.settings.lr_factor(step + 1)
        self.last_losses = found.losses.over(self.processes)
        with torch.no_grad():
            self.tokens_since_fired += len(x) * self.processes.size
            self.tokens_since_fired.masked_fill_(self.processes.maximum(found.fired), 0)
            self._after(found, step)
        return self.last_losses.loss

    def counters(self) -> dict[str, Tensor]:
        """What the trainer itself remembers from step to step, beside weights and optimiser."""
        return {"tokens_since_fired": self.tokens_since_fired}

    def resume(self, step: int, counters: dict[str, Tensor]) -> None:
        """Go on at a step with the counters of a trainer that was interrupted."""
        self.tokens_since_fired = counters["tokens_since_fired"].clone()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * self.settings.lr_factor(step)

    def _found(self, scaled: Tensor, step: int) -> Measured:
        with torch.autocast(scaled.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self._measure(scaled, step)

    @abstractmethod
    def _measure(self, scaled: Float[Tensor, "B C D"], step: int) -> Measured:
        """The batch's losses, with gradients."""

    def _after(self, found: Measured, step: int) -> None:
        """Keep a kind's statistics of what it did in a step; most have none."""
        return

    def _scaled(self, x: Tensor) -> Tensor:
        return x.to(self.crosscoder.W_dec) * self.crosscoder.scales.unsqueeze(-1)


def squared_error(x: Float[Tensor, "B C D"], reconstruction: Float[Tensor, "B C D"]) -> Float[Tensor, ""]:
    """``sum_c ||x_c - x̂_c||²``, mean over tokens."""
    return (reconstruction - x).square().sum() / len(x)


def active_features(codes: Float[Tensor, "B F"]) -> Float[Tensor, ""]:
    """Codes of a token that are not zero, mean over the first `_COUNTED` tokens: counting all takes as long as Adam."""
    few = codes.detach()[:_COUNTED]
    return few.count_nonzero() / len(few)


def warmed_up(weight: float, step: int, warmup: float) -> float:
    """A weight that rises linearly from 0 over the first `warmup` steps.

    Examples:
        >>> [warmed_up(2.0, step, 4) for step in (0, 1, 4, 9)]
        [0.0, 0.5, 2.0, 2.0]
    """
    return weight * min(1.0, step / warmup if warmup else 1.0)
