"""TopK and BatchTopK crosscoders: trainers that keep the k largest codes, with AuxK."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.crosscoders.activation_functions import BatchTopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.sparse_codes import SPARSE_BELOW, ActiveCodes, encode_at, top_k_of_batch, top_k_per_row
from crosstime.errors import CrosscoderError
from crosstime.machine.processes import ALONE, Processes
from crosstime.training.topk_config import BatchTopKConfig, TopKConfig
from crosstime.training.trainer import ForwardPass, Losses, Trainer, squared_error

_COUNT_DEAD_EVERY = 32
"""Number of steps between two counts of the dead features, each of which syncs the device."""


class TopKTrainer(Trainer):
    """Trains with each token's k largest norm-weighted codes, and AuxK.

    ::

        loss = mean over tokens of  sum_c ||s_c x_c - s_c x̂_c||²  +  auxk * ||e - ê||² / Var(e)

    e is the reconstruction error, and ê its reconstruction from the D/2 dead features with the largest norm-weighted
    codes. When few features are active, sums run over those alone (`crosstime.crosscoders.sparse_codes`).

    Attributes:
        dead: features that count as dead for AuxK.
        n_dead: their number.

    Source: Gao et al. 2024 (arXiv 2406.04093), sections 2.3 and A.2.
    """

    settings: TopKConfig
    dead: Tensor
    n_dead: int

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
        self.n_dead = self._count_dead()

    def _forward(self, scaled: Float[Tensor, "B C D"], step: int) -> ForwardPass:
        crosscoder, settings = self.crosscoder, self.settings

        # Dense pre-activations. If few codes will be active, gradients flow through those alone.
        k = settings.k_at(step)
        sparse = k <= SPARSE_BELOW.get(scaled.device.type, 0.0) * settings.n_features
        with torch.set_grad_enabled(torch.is_grad_enabled() and not sparse):
            pre = crosscoder.pre_scaled(scaled)

        # Select the largest norm-weighted codes. A relu would cost one more pass over B x F numbers, so negative ones
        # may be selected; encode_at sets them to zero.
        with torch.no_grad():
            weighted = pre * crosscoder.selection_norms()
            selected = self._select(weighted, k)
        active = self._encode(scaled, pre, selected)

        # Reconstruct.
        flat = self.shards.total(self._decode(active)) + rearrange(crosscoder.b_dec, "c d -> (c d)")
        reconstruction = rearrange(flat, "b (c d) -> b c d", c=crosscoder.n_checkpoints)
        l2 = squared_error(scaled, reconstruction)

        # Let dead features reconstruct the error.
        error = (scaled - reconstruction).detach()
        auxk = self._auxk(scaled, pre, weighted, error) if self.n_dead and settings.auxk else l2.new_zeros(())

        # Collect the losses, and the smallest selected code for the threshold of BatchTopK.
        is_active = active.code.detach() > 0
        l0 = self.shards.total(is_active.sum() / len(scaled))
        losses = Losses(l2 + settings.auxk * auxk, l2.detach(), auxk.detach(), l0)
        selected_codes = torch.where(is_active, weighted.reshape(-1)[selected], torch.inf)
        # A shard may have selected nothing, and an empty tensor has no minimum.
        smallest_code = selected_codes.min() if len(selected_codes) else l2.new_tensor(torch.inf)
        return ForwardPass(losses, active.fired(), reconstruction, active, smallest_code)

    def _select(self, weighted: Float[Tensor, "B F"], k: int) -> Int[Tensor, " N"]:
        """Flat indices of the codes that are kept."""
        return top_k_per_row(weighted, k, self.shards)

    def _encode(self, scaled: Tensor, pre: Tensor, selected: Tensor) -> ActiveCodes:
        crosscoder = self.crosscoder
        x, encoder = rearrange(scaled, "b c d -> b (c d)"), rearrange(crosscoder.W_enc, "c d f -> (c d) f")
        return encode_at(x, encoder, pre, crosscoder.b_enc, selected)

    def _decode(self, active: ActiveCodes) -> Tensor:
        directions = rearrange(self.crosscoder.W_dec, "f c d -> f (c d)")
        active_fraction = len(active.code) / (active.n_tokens * active.n_features)
        if active_fraction > SPARSE_BELOW.get(directions.device.type, 0.0):
            return active.dense() @ directions
        return active.decode(directions)

    def _auxk(self, scaled: Tensor, pre: Tensor, weighted: Tensor, error: Tensor) -> Float[Tensor, ""]:
        """Fraction of the error's variance that the dead features do not explain either."""
        k = min(self.crosscoder.origin.d_model // 2, self.n_dead)
        if k < 1:
            return error.new_zeros(())

        # Reconstruct the error from the dead features with the largest codes.
        selected = top_k_per_row(weighted.masked_fill(~self.dead, -torch.inf), k, self.shards)
        reconstruction = self.shards.total(self._decode(self._encode(scaled, pre, selected)))

        # Divide by the variance over the whole batch, the rows of all processes.
        flat = rearrange(error, "b c d -> b (c d)")
        mean = flat.mean(0)
        self.processes.mean_(mean)
        variance = (flat - mean).square().sum() / len(flat)
        self.processes.mean_(variance)
        return ((flat - reconstruction).square().sum() / len(flat) / variance).nan_to_num(0.0)

    def _update_statistics(self, forward: ForwardPass, step: int) -> None:
        if step % _COUNT_DEAD_EVERY == 0:
            self.dead = self.tokens_since_fired >= self.settings.dead_after
            self.n_dead = self._count_dead()

    def _count_dead(self) -> int:
        """Number of dead features in all shards."""
        n_dead = self.dead.sum()
        self.shards.sum_(n_dead)
        return int(n_dead)


class BatchTopKTrainer(TopKTrainer):
    """Trains with a batch's ``k B`` largest norm-weighted codes, and estimates the threshold for inference.

    Source: Bussmann et al. 2024 (arXiv 2412.06410); CTT (arXiv 2509.05291), released settings.
    """

    settings: BatchTopKConfig

    def _select(self, weighted: Float[Tensor, "B F"], k: int) -> Int[Tensor, " N"]:
        count = k * len(weighted) * self.processes.size
        return top_k_of_batch(weighted, count, self.processes, self.shards)

    def _update_statistics(self, forward: ForwardPass, step: int) -> None:
        super()._update_statistics(forward, step)
        activation = self.crosscoder.activation
        if not isinstance(activation, BatchTopK) or forward.smallest_code is None:
            raise CrosscoderError(f"A BatchTopK trainer cannot learn the threshold of {activation.name}.")

        # The smallest code that any process selected; the threshold stays as it is if none did.
        threshold = activation.threshold
        smallest = -self.processes.maximum(self.shards.maximum(-forward.smallest_code))
        smallest = torch.where(smallest.isfinite(), smallest, threshold)

        # Moving average, which starts when k has reached its final value and a threshold is set.
        k_is_final = self.settings.k_at(step) == self.settings.k and step > 0
        memory = torch.where(threshold > 0, self.settings.threshold_memory if k_is_final else 0.0, 0.0)
        threshold.copy_(memory * threshold + (1 - memory) * smallest)
