"""Trainers of crosscoders that keep the k largest codes, of a token or of a batch, with AuxK for dead features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, BatchTopK, TopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.sparse_codes import SPARSE_BELOW, Active, encode_at, top_of_all, top_of_each
from crosstime.errors import CrosscoderError
from crosstime.machine.processes import ALONE, Processes
from crosstime.training.trainer import Losses, Measured, Trainer, TrainerConfig, squared_error

_REVIEW_DEAD_EVERY = 32


@dataclass(frozen=True)
class TopKConfig(TrainerConfig):
    """Hyper-parameters of TopK training; see also `TrainerConfig`.

    Attributes:
        k: active features of a token, at the end.
        k_start: active features of a token at the start; None: k from the start.
        k_steps: steps in which their number falls linearly from `k_start` to `k`.
        auxk: weight of AuxK, the error of dead features' reconstruction of what the others missed.
        dead_after: tokens without firing after which AuxK takes up a feature.
    """

    k: int = 200
    k_start: int | None = None
    k_steps: int = 5_000
    auxk: float = 1 / 32
    dead_after: int = 10_000_000

    kind: ClassVar[str] = "topk"
    title: ClassVar[str] = "TopK"
    knob: ClassVar[str] = "k"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("k", "k_steps", "dead_after")
        if self.k > self.n_features:
            raise CrosscoderError(f"k must be between 1 and n_features ({self.n_features}), not {self.k}.")
        if self.k_start is not None and not self.k <= self.k_start <= self.n_features:
            raise CrosscoderError(
                f"k_start must be between k ({self.k}) and n_features ({self.n_features}), not {self.k_start}."
            )
        if self.auxk < 0:
            raise CrosscoderError(f"auxk must not be negative; got {self.auxk}.")

    def k_at(self, step: int) -> int:
        """Active features of a token at a step.

        Examples:
            >>> config = TopKConfig(k=20, k_start=100, k_steps=10)
            >>> [config.k_at(step) for step in (0, 5, 10, 99)]
            [100, 60, 20, 20]
        """
        if self.k_start is None or step >= self.k_steps:
            return self.k
        return round(self.k_start + (self.k - self.k_start) * step / self.k_steps)

    def activation(self) -> Activation:
        """See `TrainerConfig.activation`."""
        return TopK(self.n_features, k=self.k)

    def trainer(self, crosscoder: CrossCoder, *, processes: Processes = ALONE, precision: str = "float32") -> Trainer:
        """See `TrainerConfig.trainer`."""
        return TopKTrainer(crosscoder, self, processes=processes, precision=precision)


@dataclass(frozen=True)
class BatchTopKConfig(TopKConfig):
    """Hyper-parameters of BatchTopK training: those of `TopKConfig`, with k annealed as CTT does.

    Attributes:
        threshold_memory: share of the inference threshold that a step keeps, once k has come to rest; the rest is
            that step's.
    """

    k_start: int | None = 1_000
    threshold_memory: float = 0.99

    kind: ClassVar[str] = "batchtopk"
    title: ClassVar[str] = "BatchTopK"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.threshold_memory < 1:
            raise CrosscoderError(f"threshold_memory must be at least 0 and below 1, not {self.threshold_memory}.")

    def activation(self) -> Activation:
        """See `TrainerConfig.activation`."""
        return BatchTopK(self.n_features, k=self.k)

    def trainer(self, crosscoder: CrossCoder, *, processes: Processes = ALONE, precision: str = "float32") -> Trainer:
        """See `TrainerConfig.trainer`."""
        return BatchTopKTrainer(crosscoder, self, processes=processes, precision=precision)


class TopKTrainer(Trainer):
    """Trains with each token's k largest norm-weighted codes, and AuxK.

    ::

        loss = mean over tokens of  sum_c ||s_c x_c - s_c x̂_c||²  +  auxk * ||e - ê||² / Var(e)

    e is what the reconstruction missed, ê what the D/2 dead features with the largest norm-weighted codes make of
    it. Sums run over active features alone when they are few (`crosstime.crosscoders.sparse_codes`).

    Source: Gao et al. 2024 (arXiv 2406.04093), sections 2.3 and A.2.
    """

    settings: TopKConfig

    def __init__(
        self,
        crosscoder: CrossCoder,
        config: TopKConfig,
        *,
        processes: Processes = ALONE,
        precision: str = "float32",
    ) -> None:
        super().__init__(crosscoder, config, processes=processes, precision=precision)
        self.dead = torch.zeros_like(self.tokens_since_fired, dtype=torch.bool)
        self.n_dead = 0

    def counters(self) -> dict[str, Tensor]:
        """See `Trainer.counters`."""
        return super().counters() | {"dead": self.dead}

    def resume(self, step: int, counters: dict[str, Tensor]) -> None:
        """See `Trainer.resume`."""
        super().resume(step, counters)
        self.dead = counters["dead"].clone()
        self.n_dead = int(self.dead.sum())

    def _measure(self, scaled: Float[Tensor, "B C D"], step: int) -> Measured:
        crosscoder, k = self.crosscoder, self.settings.k_at(step)
        few = k <= SPARSE_BELOW.get(scaled.device.type, 0.0) * crosscoder.n_features
        with torch.set_grad_enabled(torch.is_grad_enabled() and not few):
            pre = crosscoder.pre_scaled(scaled)
        with torch.no_grad():
            # Without relu, which would cost a pass: what is negative comes last, and encode_at makes it zero.
            weighted = pre * crosscoder.selection_norms()
            chosen = self._choose(weighted, k)
        active = self._encode(scaled, pre, chosen)
        flat = self._decode(active) + rearrange(crosscoder.b_dec, "c d -> (c d)")
        reconstruction = rearrange(flat, "b (c d) -> b c d", c=crosscoder.n_checkpoints)
        l2 = squared_error(scaled, reconstruction)
        missed = (scaled - reconstruction).detach()
        auxk = self._auxk(scaled, pre, weighted, missed) if self.n_dead and self.settings.auxk else l2.new_zeros(())
        kept = active.code.detach() > 0
        losses = Losses(l2 + self.settings.auxk * auxk, l2.detach(), auxk.detach(), kept.sum() / len(scaled))
        cut = torch.where(kept, weighted.reshape(-1)[chosen], torch.inf).min()
        return Measured(losses, active.fired(), reconstruction, active, cut)

    def _choose(self, weighted: Float[Tensor, "B F"], k: int) -> Tensor:
        return top_of_each(weighted, k)

    def _encode(self, scaled: Tensor, pre: Tensor, chosen: Tensor) -> Active:
        crosscoder = self.crosscoder
        x, encoder = rearrange(scaled, "b c d -> b (c d)"), rearrange(crosscoder.W_enc, "c d f -> (c d) f")
        return encode_at(x, encoder, pre, crosscoder.b_enc, chosen)

    def _decode(self, active: Active) -> Tensor:
        directions = rearrange(self.crosscoder.W_dec, "f c d -> f (c d)")
        share = len(active.code) / (active.n_tokens * active.n_features)
        if share > SPARSE_BELOW.get(directions.device.type, 0.0):
            return active.dense() @ directions
        return active.decode(directions)

    def _auxk(self, scaled: Tensor, pre: Tensor, weighted: Tensor, missed: Tensor) -> Tensor:
        k = min(self.crosscoder.origin.d_model // 2, self.n_dead)
        if k < 1:
            return missed.new_zeros(())
        chosen = top_of_each(weighted.masked_fill(~self.dead, -torch.inf), k)
        guess = self._decode(self._encode(scaled, pre, chosen))
        flat = rearrange(missed, "b c d -> b (c d)")
        mean = flat.mean(0)
        self.processes.mean_(mean)
        spread = (flat - mean).square().sum() / len(flat)
        self.processes.mean_(spread)
        return ((flat - guess).square().sum() / len(flat) / spread).nan_to_num(0.0)

    def _after(self, found: Measured, step: int) -> None:
        # Counting the dead waits for the device, so it is done now and then.
        if step % _REVIEW_DEAD_EVERY == 0:
            self.dead = self.tokens_since_fired >= self.settings.dead_after
            self.n_dead = int(self.dead.sum())


class BatchTopKTrainer(TopKTrainer):
    """Trains with a batch's ``k B`` largest norm-weighted codes, and learns the threshold for afterwards.

    Source: Bussmann et al. 2024 (arXiv 2412.06410); CTT (arXiv 2509.05291), released settings.
    """

    settings: BatchTopKConfig

    def _choose(self, weighted: Float[Tensor, "B F"], k: int) -> Tensor:
        return top_of_all(weighted, k * len(weighted), self.processes)

    def _after(self, found: Measured, step: int) -> None:
        super()._after(found, step)
        threshold = self.crosscoder.activation.threshold
        smallest = -self.processes.maximum(-found.cut)
        smallest = torch.where(smallest.isfinite(), smallest, threshold)
        settled = self.settings.k_at(step) == self.settings.k and step > 0
        memory = torch.where(threshold > 0, self.settings.threshold_memory if settled else 0.0, 0.0)
        threshold.copy_(memory * threshold + (1 - memory) * smallest)
