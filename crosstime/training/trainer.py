"""The trainer that all kinds of crosscoder share, in the form of dictionary_learning's trainers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.sparse_codes import ActiveCodes
from crosstime.errors import CrosscoderError
from crosstime.machine.processes import ALONE, Processes
from crosstime.training.trainer_config import FROZEN, PRECISIONS, TrainerConfig
from user_input.nearest import nearest

DEAD_AFTER = 100_000
"""Number of tokens without firing after which the log counts a feature as dead."""

_CLIP_EPSILON = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to the norm."""

_L0_TOKENS = 256
"""Number of tokens of a batch on which L0 is measured: counting the non-zeros of all takes as long as Adam."""


@dataclass(frozen=True)
class Losses:
    """Loss of one batch and the terms that it consists of, as means over tokens.

    Attributes:
        loss: the training loss.
        l2: ``sum_c ||s_c x_c - s_c x̂_c||²``; its mean over checkpoints for the kind with a gate per checkpoint.
        sparsity: the kind's second term before its weight: L1, tanh, or the AuxK error.
        l0: number of active features per token; with a gate per checkpoint, the mean over checkpoints.
    """

    loss: Float[Tensor, ""]
    l2: Float[Tensor, ""]
    sparsity: Float[Tensor, ""]
    l0: Float[Tensor, ""]

    def over(self, processes: Processes) -> Losses:
        """The means over all processes, without gradients."""
        terms = torch.stack([term.detach().float() for term in (self.loss, self.l2, self.sparsity, self.l0)])
        processes.mean_(terms)
        return Losses(*terms.unbind())


class LossLog(NamedTuple):
    """What dictionary_learning logs of a batch; activations and reconstruction are on the scale of training."""

    x: Tensor
    """Activations, ``B C D``."""
    x_hat: Tensor
    """Reconstruction, ``B C D``."""
    f: Tensor
    """Dense codes, ``B F``; with a gate per checkpoint ``B C F``."""
    losses: dict[str, float]
    """The loss and its terms."""


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """One batch's forward pass through a crosscoder in training.

    Attributes:
        losses: the losses, with gradients.
        fired: features that were active on some token.
        reconstruction: the reconstruction on the scale of training.
        codes: the codes, dense or sparse.
        smallest_code: the smallest norm-weighted code that was selected, infinity if none was; None for kinds that do
            not select the largest codes.
    """

    losses: Losses
    fired: Bool[Tensor, " F"]
    reconstruction: Float[Tensor, "B C D"]
    codes: Float[Tensor, "B *gates F"] | ActiveCodes
    smallest_code: Float[Tensor, ""] | None = None


class Trainer(ABC):
    """Takes optimiser steps on a crosscoder; subclasses define the loss.

    Trainers have the interface that dictionary_learning's `trainSAE` expects: it builds them from a dictionary of
    arguments (``{"trainer": L1Trainer, "crosscoder": ..., "config": ...}``) and calls `update` on every batch.
    Activations are ``B C D`` in the models' own scale; the trainer multiplies them by the crosscoder's scales.

    Args:
        crosscoder: the crosscoder, which is trained in place.
        config: hyper-parameters.
        processes: processes that take each step together, each on its rows of the batch (equal numbers of rows). They
            hold the same features; those among which the features are divided are `crosscoder.shard.processes`.
        precision: precision of the matrix products, one of `PRECISIONS`.

    Attributes:
        crosscoder: the crosscoder (`ae` is the same object under dictionary_learning's name).
        settings: hyper-parameters.
        shards: processes among which the features are divided. They take each step on the same rows.
        optimizer: Adam, fused where the device supports it.
        tokens_since_fired: for each feature of this shard, the number of tokens since it was last active.
        last_losses: losses of the last step, means over all processes; None before the first step.

    Raises:
        CrosscoderError: the crosscoder is of another size or kind than the configuration or is folded, or the precision
            is unknown.
    """

    crosscoder: CrossCoder
    settings: TrainerConfig
    processes: Processes
    shards: Processes
    precision: str
    optimizer: torch.optim.Adam
    tokens_since_fired: Tensor
    last_losses: Losses | None

    def __init__(
        self,
        crosscoder: CrossCoder,
        config: TrainerConfig,
        *,
        processes: Processes = ALONE,
        precision: str = "float32",
    ) -> None:
        # Check that crosscoder and configuration fit each other.
        if precision not in PRECISIONS:
            raise CrosscoderError(f"There is no precision {precision!r}: {nearest(precision, PRECISIONS)}")
        if crosscoder.shard.n_features != config.n_features:
            raise CrosscoderError(
                f"The trainer is for {config.n_features} features, the crosscoder has {crosscoder.shard.n_features}."
            )
        expected, actual = config.activation().name, crosscoder.activation.name
        if expected != actual:
            raise CrosscoderError(
                f"A trainer of kind {config.kind} trains {expected}, but the crosscoder has {actual}."
            )
        if crosscoder.norms_before_folding is not None:
            raise CrosscoderError("A folded crosscoder cannot be trained: its scales are part of its weights.")

        # Set up the optimiser and the statistics.
        self.crosscoder = self.ae = crosscoder
        self.settings = config
        self.processes = processes
        self.shards = crosscoder.shard.processes
        self.precision = precision
        self.wandb_name = type(self).__name__
        fused = all(parameter.device.type in ("cpu", "cuda") for parameter in crosscoder.parameters())
        lr = config.lr * config.lr_factor(0)
        groups = self._parameter_groups()
        self._lr_factors = [factor for factor, _ in groups]
        self.optimizer = torch.optim.Adam(
            [{"params": parameters, "lr": lr * factor} for factor, parameters in groups],
            lr=lr,
            betas=(0.9, 0.999),
            fused=fused,
        )
        self.tokens_since_fired = torch.zeros(crosscoder.n_features, dtype=torch.long, device=crosscoder.W_dec.device)
        self.last_losses = None

    @property
    def config(self) -> dict[str, object]:
        """The hyper-parameters as plain values."""
        return {"trainer_class": type(self).__name__, "dict_class": "CrossCoder", **self.settings.record()}

    def get_logging_parameters(self) -> dict[str, float]:
        """Losses of the last step, and the fraction of features that have not fired for 100,000 tokens."""
        if self.last_losses is None:
            return {}
        return {
            "loss": self.last_losses.loss.item(),
            "l2": self.last_losses.l2.item(),
            "sparsity": self.last_losses.sparsity.item(),
            "l0": self.last_losses.l0.item(),
            "dead": self.dead_fraction(),
        }

    def dead_fraction(self) -> float:
        """Fraction of all features that have not fired for 100,000 tokens."""
        n_dead = (self.tokens_since_fired > DEAD_AFTER).double().sum()
        self.shards.sum_(n_dead)
        return n_dead.item() / self.settings.n_features

    def losses(self, x: Float[Tensor, "B C D"], step: int) -> Losses:
        """Loss of a batch and its terms, with the weights that the schedule gives them at `step`."""
        return self._forward_pass(self._scaled(x), step).losses

    def loss(self, x: Float[Tensor, "B C D"], step: int, logging: bool = False) -> Float[Tensor, ""] | LossLog:
        """The training loss of a batch, or what dictionary_learning logs of it if `logging`."""
        scaled = self._scaled(x)
        forward = self._forward_pass(scaled, step)
        if not logging:
            return forward.losses.loss
        codes = forward.codes if isinstance(forward.codes, Tensor) else forward.codes.dense()
        terms = {name: getattr(forward.losses, name).item() for name in ("loss", "l2", "sparsity")}
        return LossLog(scaled, forward.reconstruction, codes, terms)

    def update(self, step: int, x: Float[Tensor, "B C D"]) -> Float[Tensor, ""]:
        """Take one optimiser step on a batch, and return its loss as a tensor, to avoid a device sync."""
        # Forward and backward pass.
        self.crosscoder.train()
        forward = self._forward_pass(self._scaled(x), step)
        self.optimizer.zero_grad(set_to_none=True)
        forward.losses.loss.backward()

        # Average the gradients over processes, tie those of shared features, clip, and step.
        parameters = list(self.crosscoder.parameters())
        self.processes.mean_(*(parameter.grad for parameter in parameters if parameter.grad is not None))
        self.crosscoder.tie_gradients()
        self._clear_frozen_gradient()
        if self.settings.clip:
            self._clip_gradients(parameters)
        self.optimizer.step()
        self._set_learning_rate(step + 1)

        # Update losses and statistics.
        self.last_losses = forward.losses.over(self.processes)
        with torch.no_grad():
            self.tokens_since_fired += len(x) * self.processes.size
            self.tokens_since_fired.masked_fill_(self.processes.maximum(forward.fired), 0)
            self._update_statistics(forward, step)
        return self.last_losses.loss

    def counters(self) -> dict[str, Tensor]:
        """The trainer's own state, apart from weights and optimiser."""
        return {"tokens_since_fired": self.tokens_since_fired}

    def resume(self, step: int, counters: dict[str, Tensor]) -> None:
        """Restore the counters of an interrupted trainer, and the learning rate of the step to resume at."""
        self.tokens_since_fired = counters["tokens_since_fired"].clone()
        self._set_learning_rate(step)

    def _parameter_groups(self) -> list[tuple[float, list[nn.Parameter]]]:
        """The parameters, in groups with the factor by which each group's learning rate differs from `lr`."""
        return [(1.0, list(self.crosscoder.parameters()))]

    def _clear_frozen_gradient(self) -> None:
        """Set the gradient of frozen weights to zero, with which Adam leaves them as they are, bit for bit."""
        if self.settings.frozen is None:
            return
        weights: nn.Parameter = getattr(self.crosscoder, FROZEN[self.settings.frozen])
        if weights.grad is not None:
            weights.grad.zero_()

    def _clip_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Scale all gradients so that their common norm, over all shards, is at most `clip`."""
        if self.shards.size == 1 and not self.crosscoder.n_shared:
            torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip)
            return

        # The bias of the decoder is the same on all shards, so that its gradient counts once
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        bias, decoder = self.crosscoder.b_dec.grad, self.crosscoder.W_dec.grad
        squares = torch.stack([gradient.square().sum() for gradient in gradients if gradient is not bias]).sum()

        # A shared feature has one direction, which is stored C times
        n_tied = self.crosscoder.shard.overlap(self.crosscoder.n_shared)
        if decoder is not None and n_tied:
            squares -= decoder[:n_tied, 1:].square().sum()
        self.shards.sum_(squares)
        norm = (squares + (0.0 if bias is None else bias.square().sum())).sqrt()
        factor = (self.settings.clip / (norm + _CLIP_EPSILON)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)

    def _set_learning_rate(self, step: int) -> None:
        lr = self.settings.lr * self.settings.lr_factor(step)
        for group, factor in zip(self.optimizer.param_groups, self._lr_factors, strict=True):
            group["lr"] = lr * factor

    def error(self, scaled: Float[Tensor, "B C D"], reconstruction: Float[Tensor, "B C D"]) -> Float[Tensor, ""]:
        """The reconstruction error that the kind minimises, on the scale of training."""
        return squared_error(scaled, reconstruction)

    def _forward_pass(self, scaled: Float[Tensor, "B C D"], step: int) -> ForwardPass:
        with torch.autocast(scaled.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self._forward(scaled, step)

    @abstractmethod
    def _forward(self, scaled: Float[Tensor, "B C D"], step: int) -> ForwardPass:
        """Forward pass and losses of a batch on the scale of training."""

    def _update_statistics(self, forward: ForwardPass, step: int) -> None:
        """Update the statistics that a kind collects over the steps; most have none."""
        return

    def _scaled(self, x: Float[Tensor, "B C D"]) -> Float[Tensor, "B C D"]:
        return x.to(self.crosscoder.W_dec) * self.crosscoder.scales.unsqueeze(-1)


def squared_error(x: Float[Tensor, "B C D"], reconstruction: Float[Tensor, "B C D"]) -> Float[Tensor, ""]:
    """``sum_c ||x_c - x̂_c||²``, mean over tokens."""
    return (reconstruction - x).square().sum() / len(x)


def mean_l0(codes: Float[Tensor, "B *gates F"]) -> Float[Tensor, ""]:
    """Number of active features per token and gate, mean over the first 256 tokens of a batch."""
    sample = codes.detach()[:_L0_TOKENS]
    return sample.count_nonzero() / (sample.numel() // sample.shape[-1])


def warmed_up(weight: float, step: int, warmup: float | int) -> float:
    """A weight that rises linearly from 0 over the first `warmup` steps.

    Examples:
        >>> [warmed_up(2.0, step, 4) for step in (0, 1, 4, 9)]
        [0.0, 0.5, 2.0, 2.0]
    """
    return weight * min(1.0, step / warmup if warmup else 1.0)
