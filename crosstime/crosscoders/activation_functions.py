"""Which features fire: the activation function of a crosscoder, as a part of it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crosstime.errors import CrosscoderError
from user_input.nearest import nearest


class Activation(nn.Module):
    """Codes of pre-activations, the same whether or not somebody is training.

    Every kind selects on the *norm-weighted* code ``z_i = relu(pre_i) n_i`` with ``n_i = sum_c ||W_dec[i, c]||``
    on the scale of training: how much a feature adds to the reconstruction, not how large its number is. What a
    kind does differently in training is asked for by the trainer, by name; there is no training mode that an
    evaluation could be left in.
    """

    name: ClassVar[str]

    def forward(self, pre: Float[Tensor, "T F"], norms: Float[Tensor, " F"]) -> Float[Tensor, "T F"]:
        """Codes, zero where a feature does not fire.

        Args:
            pre: ``sum_c W_enc[c] s_c x_c + b_enc``.
            norms: n_i.
        """
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Plain values that `activation_named` builds the same part from; tensors are in the state."""
        return {}


class ReLU(Activation):
    """``f = relu(pre)``.

    Examples:
        >>> ReLU()(torch.tensor([[-1.0, 2.0]]), torch.ones(2)).tolist()
        [[0.0, 2.0]]

    Source: Lindsey et al. 2024; CTT (arXiv 2509.05291), section 3.1.
    """

    name = "relu"

    def __init__(self, n_features: int = 0) -> None:
        super().__init__()

    def forward(self, pre: Float[Tensor, "T F"], norms: Float[Tensor, " F"]) -> Float[Tensor, "T F"]:
        """See `Activation.forward`."""
        return torch.relu(pre)


class TopK(Activation):
    """Each token keeps its k largest norm-weighted codes.

    Examples:
        >>> TopK(3, k=1)(torch.tensor([[1.0, 2.0, -5.0]]), torch.tensor([9.0, 1.0, 1.0])).tolist()
        [[1.0, 0.0, 0.0]]

    Raises:
        CrosscoderError: k is not between 1 and the number of features.

    Source: Gao et al. 2024 (arXiv 2406.04093).
    """

    name = "topk"

    def __init__(self, n_features: int, *, k: int) -> None:
        super().__init__()
        _check_k(k, n_features)
        self.k = k

    def forward(self, pre: Float[Tensor, "T F"], norms: Float[Tensor, " F"]) -> Float[Tensor, "T F"]:
        """See `Activation.forward`."""
        codes = torch.relu(pre)
        kept = (codes.detach() * norms).topk(self.k, dim=-1, sorted=False).indices
        return torch.zeros_like(codes).scatter(-1, kept, codes.gather(-1, kept))

    def settings(self) -> dict[str, Any]:
        """See `Activation.settings`."""
        return {"k": self.k}


class BatchTopK(Activation):
    """A batch of B tokens shares ``k B`` active codes in training; afterwards one threshold decides.

    What a token's codes are must not depend on which tokens stand beside it, so outside of training a feature
    fires where its norm-weighted code exceeds `threshold`: a running mean of the smallest one that was kept.

    Attributes:
        k: mean number of active features of a token, at the end of training.
        threshold: on norm-weighted codes, on the scale of training.

    Examples:
        >>> part = BatchTopK(3, k=1)
        >>> part.threshold.fill_(1.5)
        tensor(1.5000)
        >>> part(torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(3)).tolist()
        [[0.0, 2.0, 3.0]]

    Raises:
        CrosscoderError: k is not between 1 and the number of features.

    Source: Bussmann et al. 2024 (arXiv 2412.06410); Minder et al. (arXiv 2504.02922).
    """

    name = "batchtopk"
    threshold: Tensor

    def __init__(self, n_features: int, *, k: int) -> None:
        super().__init__()
        _check_k(k, n_features)
        self.k = k
        self.register_buffer("threshold", torch.tensor(0.0))

    def forward(self, pre: Float[Tensor, "T F"], norms: Float[Tensor, " F"]) -> Float[Tensor, "T F"]:
        """See `Activation.forward`."""
        codes = torch.relu(pre)
        return codes * (codes.detach() * norms > self.threshold)

    def settings(self) -> dict[str, Any]:
        """See `Activation.settings`."""
        return {"k": self.k}


class JumpReLU(Activation):
    """A feature fires where its norm-weighted code exceeds a threshold of its own, which is learned.

    ``f_i = relu(pre_i) H(z_i - exp(t_i))``. The step H has no slope, so t learns by a straight-through estimate:
    within `bandwidth` of the threshold, ``df_i/dt_i = -(theta_i² / n_i) / bandwidth`` with ``theta = exp(t)``.

    Attributes:
        log_threshold: t, F numbers.
        bandwidth: width of the window, in norm-weighted units.

    Examples:
        >>> part = JumpReLU(2, threshold=1.0, bandwidth=0.5)
        >>> part(torch.tensor([[0.9, 1.1]]), torch.ones(2)).tolist()[0][0]
        0.0

    Raises:
        CrosscoderError: threshold or bandwidth is not positive.

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

    def forward(self, pre: Float[Tensor, "T F"], norms: Float[Tensor, " F"]) -> Float[Tensor, "T F"]:
        """See `Activation.forward`."""
        return _Jump.apply(pre, norms.detach(), self.log_threshold.exp(), self.bandwidth)

    def settings(self) -> dict[str, Any]:
        """See `Activation.settings`."""
        return {"bandwidth": self.bandwidth}


class _Jump(torch.autograd.Function):
    """The jump, exact forward; backward the slope of the ramp that stands for its step."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, norms: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        codes = torch.relu(pre)
        weighted = codes * norms
        fires = weighted > threshold
        near = ((weighted - threshold).abs() < bandwidth / 2) & (pre > 0)
        ctx.save_for_backward(fires, near, norms, threshold)
        ctx.bandwidth = bandwidth
        return codes * fires

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, None]:
        fires, near, norms, threshold = ctx.saved_tensors
        at_threshold = threshold / norms.clamp_min(torch.finfo(norms.dtype).tiny) / ctx.bandwidth
        return gradient * fires, None, -(gradient * near).sum(0) * at_threshold, None


ACTIVATIONS: dict[str, type[Activation]] = {part.name: part for part in (ReLU, TopK, BatchTopK, JumpReLU)}
"""Every activation function, by the name that files carry."""


def activation_named(name: str, n_features: int, settings: dict[str, Any]) -> Activation:
    """Build an activation function from what its `settings` gave.

    Raises:
        CrosscoderError: no such name, or other settings than it has.

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


def _check_k(k: int, n_features: int) -> None:
    if not 1 <= k <= n_features:
        raise CrosscoderError(f"k must be between 1 and the {n_features} features, not {k}.")
