"""Activation functions of a crosscoder, which decide the features that are active on a token."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crosstime.crosscoders.feature_shard import FeatureShard
from crosstime.crosscoders.sparse_codes import kth_largest
from crosstime.errors import CrosscoderError
from crosstime.machine.processes import ALONE
from user_input.nearest import nearest


class Activation(nn.Module):
    """Map pre-activations to codes, in the same way during training and evaluation.

    Every kind selects by the *norm-weighted* code ``z_i = relu(pre_i) n_i`` with ``n_i = sum_c ||W_dec[i, c]||`` on the
    scale of training: by how much a feature adds to the reconstruction, rather than by the size of its code. What a
    kind does differently in training is a method of its trainer; there is no training mode that evaluation could be
    left in by mistake.

    Most kinds have one gate for all checkpoints. A kind with a gate per checkpoint compares
    ``z_ic = relu(pre_i) ||W_dec[i, c]||`` at each of them, so that its codes differ between checkpoints: they are
    ``T C F`` instead of ``T F``.

    Attributes:
        name: the name that files contain.
        gate_per_checkpoint: whether each checkpoint has a gate of its own.
    """

    name: ClassVar[str]
    gate_per_checkpoint: ClassVar[bool] = False

    def forward(self, pre: Float[Tensor, "T F"], norms: Float[Tensor, "*gates F"]) -> Float[Tensor, "T *gates F"]:
        """Codes, which are zero for features that are not active.

        Args:
            pre: pre-activations ``sum_c W_enc[c] s_c x_c + b_enc``.
            norms: n_i; with a gate per checkpoint ``||W_dec[i, c]||``, ``C F``.
        """
        raise NotImplementedError

    def gate(self) -> str:
        """Where a feature is gated, in words that a report can show.

        Examples:
            >>> ReLU().gate()
            'one gate for all checkpoints'
        """
        return "a gate per checkpoint" if self.gate_per_checkpoint else "one gate for all checkpoints"

    def restrict(self, shard: FeatureShard) -> None:
        """Keep what belongs to the features of a shard; most kinds have nothing that differs between features."""
        return

    def settings(self) -> dict[str, Any]:
        """Plain values from which `activation_named` rebuilds the module; its tensors are in the state dict."""
        return {}


class ReLU(Activation):
    """``f = relu(pre)``.

    Args:
        n_features: accepted for uniformity, and not used.

    Examples:
        >>> ReLU()(torch.tensor([[-1.0, 2.0]]), torch.ones(2)).tolist()
        [[0.0, 2.0]]

    Source: Lindsey et al. 2024; CTT (arXiv 2509.05291), section 3.1.
    """

    name = "relu"

    def __init__(self, n_features: int = 0) -> None:
        super().__init__()

    def forward(self, pre: Float[Tensor, "T F"], norms: Float[Tensor, "*gates F"]) -> Float[Tensor, "T *gates F"]:
        """See `Activation.forward`."""
        return torch.relu(pre)


class TopK(Activation):
    """On each token, the k features with the largest norm-weighted codes are active.

    Args:
        n_features: F.
        k: number of active features of a token.

    Raises:
        CrosscoderError: k is not between 1 and the number of features.

    Examples:
        >>> TopK(3, k=1)(torch.tensor([[1.0, 2.0, -5.0]]), torch.tensor([9.0, 1.0, 1.0])).tolist()
        [[1.0, 0.0, 0.0]]

    Source: Gao et al. 2024 (arXiv 2406.04093).
    """

    name = "topk"

    def __init__(self, n_features: int, *, k: int) -> None:
        super().__init__()
        _check_k(k, n_features)
        self.k = k
        self._shards = ALONE

    def restrict(self, shard: FeatureShard) -> None:
        """Select among the features of all shards."""
        self._shards = shard.processes

    def forward(self, pre: Float[Tensor, "T F"], norms: Float[Tensor, "*gates F"]) -> Float[Tensor, "T *gates F"]:
        """See `Activation.forward`."""
        codes = torch.relu(pre)
        if self._shards.size > 1:
            weighted = codes.detach() * norms
            return codes * (weighted >= kth_largest(weighted, self.k, self._shards).unsqueeze(1))
        top = (codes.detach() * norms).topk(self.k, dim=-1, sorted=False).indices
        return torch.zeros_like(codes).scatter(-1, top, codes.gather(-1, top))

    def settings(self) -> dict[str, Any]:
        """See `Activation.settings`."""
        return {"k": self.k}


class BatchTopK(Activation):
    """A feature is active if its norm-weighted code exceeds one threshold, which is estimated in training.

    In training, a batch of B tokens shares ``k B`` active codes. Outside of training the codes of a token must not
    depend on the other tokens of its batch, so the threshold decides: a running mean of the smallest norm-weighted code
    that is selected from a batch.

    Args:
        n_features: F.
        k: mean number of active features of a token.

    Attributes:
        k: mean number of active features of a token, at the end of training.
        threshold: on norm-weighted codes, on the scale of training.

    Raises:
        CrosscoderError: k is not between 1 and the number of features.

    Examples:
        >>> activation = BatchTopK(3, k=1)
        >>> activation.threshold.fill_(1.5)
        tensor(1.5000)
        >>> activation(torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(3)).tolist()
        [[0.0, 2.0, 3.0]]

    Source: Bussmann et al. 2024 (arXiv 2412.06410); Minder et al. (arXiv 2504.02922).
    """

    name = "batchtopk"
    threshold: Tensor

    def __init__(self, n_features: int, *, k: int) -> None:
        super().__init__()
        _check_k(k, n_features)
        self.k = k
        self.register_buffer("threshold", torch.tensor(0.0))

    def forward(self, pre: Float[Tensor, "T F"], norms: Float[Tensor, "*gates F"]) -> Float[Tensor, "T *gates F"]:
        """See `Activation.forward`."""
        codes = torch.relu(pre)
        return codes * (codes.detach() * norms > self.threshold)

    def settings(self) -> dict[str, Any]:
        """See `Activation.settings`."""
        return {"k": self.k}


class JumpReLU(Activation):
    """A feature is active if its norm-weighted code exceeds a threshold of its own, which is learned.

    ``f_i = relu(pre_i) H(z_i - exp(t_i))``. The step function H has no slope, so t is learned with a straight-through
    estimate: within `bandwidth` of the threshold ``theta = exp(t)``, ``df_i/dt_i = -(theta_i² / n_i) / bandwidth``.

    Args:
        n_features: F.
        threshold: initial theta.
        bandwidth: width of the window, in norm-weighted units.

    Attributes:
        log_threshold: t, F numbers.
        bandwidth: width of the window.

    Raises:
        CrosscoderError: threshold or bandwidth is not positive.

    Examples:
        >>> activation = JumpReLU(2, threshold=1.0, bandwidth=0.5)
        >>> activation(torch.tensor([[0.9, 1.1]]), torch.ones(2)).tolist()[0][0]
        0.0

    Source: Rajamanoharan et al. 2024 (arXiv 2407.14435); EoC (arXiv 2509.17196).
    """

    name = "jumprelu"

    def __init__(self, n_features: int, *, threshold: float = 0.01, bandwidth: float = 0.1) -> None:
        super().__init__()
        for name, value in (("threshold", threshold), ("bandwidth", bandwidth)):
            if not value > 0:
                raise CrosscoderError(f"{name} must be positive, not {value}.")
        self.bandwidth = float(bandwidth)
        self.log_threshold = nn.Parameter(torch.full((n_features,), float(threshold)).log())

    def restrict(self, shard: FeatureShard) -> None:
        """Keep the thresholds of the shard's features."""
        if shard.processes.size > 1 and len(self.log_threshold) == shard.n_features:
            self.log_threshold = nn.Parameter(self.log_threshold.detach()[shard.start : shard.stop].clone())

    def forward(self, pre: Float[Tensor, "T F"], norms: Float[Tensor, "*gates F"]) -> Float[Tensor, "T *gates F"]:
        """See `Activation.forward`."""
        return _Jump.apply(pre, norms.detach(), self.log_threshold.exp(), self.bandwidth)

    def settings(self) -> dict[str, Any]:
        """See `Activation.settings`."""
        return {"bandwidth": self.bandwidth}


class PerCheckpointJumpReLU(JumpReLU):
    """A JumpReLU with a gate at every checkpoint: a feature can be active at one and inactive at another.

    ``f_ic = relu(pre_i) H(z_ic - exp(t_i))`` with ``z_ic = relu(pre_i) ||W_dec[i, c]||``. All checkpoints have the same
    pre-activation and the same threshold, so ``f_ic`` is either ``relu(pre_i)`` or zero, and the gate opens first where
    the decoder norm is largest. Where the norm is zero, the feature is never active. Near the threshold,
    ``df_ic/dt_i = -(theta_i² / ||W_dec[i, c]||) / bandwidth``, summed over checkpoints.

    Args:
        n_features: F.
        threshold: initial theta.
        bandwidth: width of the window, in norm-weighted units.

    Raises:
        CrosscoderError: threshold or bandwidth is not positive.

    Examples:
        >>> activation = PerCheckpointJumpReLU(1, threshold=1.0)
        >>> activation(torch.tensor([[2.0]]), torch.tensor([[0.1], [3.0]])).tolist()
        [[[0.0], [2.0]]]

    Source: EoC's code, llamascopium 2.0.0b34, ``models/crosscoder.py`` (`Crosscoder.encode`) and
    ``activation_functions.py`` (`STEFunction`). It computes ``act(pre_i n_ic) / n_ic`` with ``n_ic = ||W_dec[i, c]||``,
    which is the same number where n_ic is not zero, and NaN where it is.
    """

    name = "jumprelu_per_checkpoint"
    gate_per_checkpoint = True

    def forward(self, pre: Float[Tensor, "T F"], norms: Float[Tensor, "*gates F"]) -> Float[Tensor, "T *gates F"]:
        """See `Activation.forward`."""
        threshold = self.log_threshold.exp().expand_as(norms)
        pre = pre.unsqueeze(1).expand(-1, *norms.shape)
        return _Jump.apply(pre, norms.detach(), threshold, self.bandwidth)


class _Jump(torch.autograd.Function):
    """The exact jump in the forward pass; in the backward pass, the slope of a ramp in place of the step."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, norms: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        codes = torch.relu(pre)
        weighted = codes * norms
        active = weighted > threshold
        on_ramp = ((weighted - threshold).abs() < bandwidth / 2) & (pre > 0)
        ctx.save_for_backward(active, on_ramp, norms, threshold)
        ctx.bandwidth = bandwidth
        return codes * active

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, None]:
        active, on_ramp, norms, threshold = ctx.saved_tensors
        code_at_threshold = threshold / norms.clamp_min(torch.finfo(norms.dtype).tiny)
        return gradient * active, None, -(gradient * on_ramp).sum(0) * (code_at_threshold / ctx.bandwidth), None


ACTIVATIONS: dict[str, type[Activation]] = {
    kind.name: kind for kind in (ReLU, TopK, BatchTopK, JumpReLU, PerCheckpointJumpReLU)
}
"""Every activation function by the name that files contain."""


def activation_named(name: str, n_features: int, settings: dict[str, Any]) -> Activation:
    """Rebuild an activation function from its name and what its `settings` returned.

    Raises:
        CrosscoderError: there is no such activation function, or it does not take these settings.

    Examples:
        >>> activation_named("topk", 8, {"k": 2}).settings()
        {'k': 2}
    """
    if name not in ACTIVATIONS:
        raise CrosscoderError(f"There is no activation function {name!r}: {nearest(name, ACTIVATIONS)}")
    try:
        return ACTIVATIONS[name](n_features, **settings)
    except TypeError as error:
        raise CrosscoderError(f"Activation function {name!r} does not take the settings {settings}.") from error


def refuse_shared(activation: Activation, n_shared: int) -> None:
    """Refuse features with one direction for all checkpoints under a gate per checkpoint, which compares directions.

    Raises:
        CrosscoderError: there are such features.
    """
    if activation.gate_per_checkpoint and n_shared:
        raise CrosscoderError(
            f"{activation.name} gates a feature by its decoder norm at each checkpoint, and a shared feature has one "
            f"direction for all of them: n_shared must be 0, not {n_shared}."
        )


def _check_k(k: int, n_features: int) -> None:
    if not 1 <= k <= n_features:
        raise CrosscoderError(f"k must be between 1 and the {n_features} features, not {k}.")
