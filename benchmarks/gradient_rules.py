"""Rules that replace the gradient of parts of a model: RelP, GIM and a correction of attention's saturation.

With one forward and one backward pass, attribution patching (`atp`) takes the gradient at the clean state. Three papers
replace the gradient of the parts of a model that are far from linear. The values of the forward pass stay the same, bit
for bit; only what the backward pass multiplies with changes. `effects_quality` measures whether that pays.

With g the gradient that arrives at the output of a part::

    part                        gradient      relp                        gim                   qk
    norm  c / s, c = x - E[x]   all           of c, s constant            of c, s constant      all
    activation function f(x)    f'(x) g       (f(x) / x) g                f'(x) g               f'(x) g
    product a * b               b g, a g      b g / 2, a g / 2            b g / 2, a g / 2      b g, a g
    attention scores q k^T      k, q          none                        k / 2, q / 2          k, q
    pattern p = softmax(z)      J(z) g        none                        J(z / 2) g            mean of J from z to z'
    attention's output p v      p, v          p                           p / 2, v / 2          p, v

where ``J(z) g = p (g - <g, p>)``, p = softmax(z), is what softmax does to a gradient, and c = x in an RMSNorm. GIM's
matrix products are halved like all its products, so that the gradients of queries and keys are divided by four and
those of values by two.

`qk` is what AtP*'s correction becomes for features of the residual stream. AtP* recomputes the softmax for every
patched query or key. A feature lies below all of them, and only the change of everything at once is known from one
further pass: from the clean scores z to those of the baseline z'. The mean of J on the straight line between them gives
the whole change of the pattern, ``mean J (z' - z) = p' - p``.

The rules act on the operations that PyTorch runs while a `GradientRules` is active (a `TorchFunctionMode`), and on the
activation functions by forward hooks that are removed afterwards. The operations that they know are those of GPT-NeoX,
OLMo, OLMo-2, BLOOM and Llama; others keep their gradient. A softmax of the logits would be taken for a pattern, so that
the metric must be a difference of logits.

Sources: Rezaei Jafari et al. 2025 (arXiv 2508.21258) and the code published with it for RelP; Edin et al. 2025 (arXiv
2505.17630) and the package gim-explain for GIM, whose softmax has no factor of one over the temperature; Kramár et al.
2024 (arXiv 2403.00745), section 3.1, for AtP*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from interventions.quadrature import nodes_and_weights

TEMPERATURE = 2.0
"""Temperature at which GIM differentiates a softmax."""
SOFTMAX_NODES = 16
"""Gauss-Legendre nodes of the mean of a softmax's Jacobian; they need no further pass of the model."""

_RSQRT = frozenset({torch.rsqrt, Tensor.rsqrt})
_SOFTMAX = frozenset({functional.softmax, torch.softmax, Tensor.softmax})
_PRODUCTS = frozenset({torch.mul, Tensor.mul})
_MATRIX_PRODUCTS = frozenset({torch.matmul, Tensor.matmul, torch.bmm, Tensor.bmm, torch.baddbmm, Tensor.baddbmm})


@dataclass(frozen=True)
class Rules:
    """Which parts of a model have another gradient.

    Attributes:
        norms: norms keep the gradient of their numerator only.
        activations: an activation function f has the gradient f(x) / x.
        products: products of two activations share their gradient, half to each.
        matrix_products: so do matrix products.
        pattern: attention patterns have the gradient of softmax; ``constant``: none; ``tempered``: that at
            `TEMPERATURE`; ``mean``: its mean between the first half of a batch and the second.

    Examples:
        >>> RULES["relp"].pattern
        'constant'
    """

    norms: bool = False
    activations: bool = False
    products: bool = False
    matrix_products: bool = False
    pattern: str = "softmax"

    @property
    def pairs(self) -> bool:
        """Whether the second half of a batch must be the first half's prompts at the baseline."""
        return self.pattern == "mean"


RULES: Mapping[str, Rules] = {
    "relp": Rules(norms=True, activations=True, products=True, pattern="constant"),
    "gim": Rules(norms=True, products=True, matrix_products=True, pattern="tempered"),
    "qk": Rules(pattern="mean"),
}
"""The rules of each method."""


@contextmanager
def applied(module: nn.Module, rules: Rules) -> Iterator[None]:
    """Apply rules to every differentiable pass of a model in the block; afterwards the model is as it was.

    Args:
        module: the transformers model.
        rules: which gradients to replace.

    Examples:
        >>> with applied(nn.Linear(2, 2), RULES["relp"]):
        ...     torch.rsqrt(torch.ones(1, requires_grad=True)).requires_grad
        False
    """
    with ExitStack() as stack:
        if rules.activations:
            for activation in activation_functions(module):
                stack.callback(activation.register_forward_hook(_activation_rule).remove)
        stack.enter_context(GradientRules(rules))
        yield


class GradientRules(TorchFunctionMode):
    """While active, operations on tensors that require gradients have the gradients of `rules`."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.rules = rules

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation, with another gradient if there is a rule for it."""
        kwargs, rules = kwargs or {}, self.rules
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        if rules.norms and func in _RSQRT:
            # The denominator of an RMSNorm
            return func(*args, **kwargs).detach()
        if rules.norms and func is functional.layer_norm:
            return _layer_norm(*args, **kwargs)
        if func in _SOFTMAX and rules.pattern != "softmax":
            return self._softmax(func, *args, **kwargs)
        if func is functional.scaled_dot_product_attention and rules.pattern != "softmax":
            return self._attention(*args, **kwargs)
        if (rules.products and func in _PRODUCTS) or (rules.matrix_products and func in _MATRIX_PRODUCTS):
            return _halved(func(*args, **kwargs), (*args, *kwargs.values()))
        return func(*args, **kwargs)

    def _softmax(
        self, func: Callable[..., Tensor], scores: Tensor, dim: int = -1, dtype: torch.dtype | None = None, **rest: Any
    ) -> Tensor:
        pattern = func(scores, dim=dim, dtype=dtype)
        if self.rules.pattern == "constant":
            return pattern.detach()
        last = scores.to(pattern.dtype).transpose(dim, -1)
        return with_gradient_of(pattern, self._ruled_softmax(last).transpose(dim, -1))

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        # Compute the value as the model does
        constant = self.rules.pattern == "constant"
        inputs = (query.detach(), key.detach(), value) if constant else (query, key, value)
        options: dict[str, Any] = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
        output = functional.scaled_dot_product_attention(*inputs, attn_mask, dropout_p, **options)
        if constant:
            return output

        # Compute it again step by step, for the gradient
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
        scores = self._product(query, key.transpose(-1, -2)) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None:
            visible = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, _lowest(scores)) if visible else scores + attn_mask
        return with_gradient_of(output, self._product(self._ruled_softmax(scores), value))

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        product = left @ right
        return _halved(product, (left, right)) if self.rules.matrix_products else product

    def _ruled_softmax(self, scores: Tensor) -> Tensor:
        """Softmax over the last axis, with the gradient of the rule."""
        z = scores.detach().clamp(min=_lowest(scores))
        if self.rules.pattern == "tempered":
            return cast(Tensor, _Softmax.apply(scores, z, [z / TEMPERATURE], [1.0]))
        n = len(z) // 2
        nodes, weights = nodes_and_weights("gauss-legendre", SOFTMAX_NODES)
        end = torch.cat([z[n:], z[n:]])
        return cast(Tensor, _Softmax.apply(scores, z, [z + a * (end - z) for a in nodes.tolist()], weights.tolist()))


def activation_functions(module: nn.Module) -> list[nn.Module]:
    """Return the activation functions of a transformers model.

    Examples:
        >>> from transformers.activations import ACT2FN
        >>> len(activation_functions(nn.Sequential(nn.Linear(2, 2), ACT2FN["silu"])))
        1
    """
    from transformers.activations import ACT2CLS
    from transformers.models.bloom.modeling_bloom import BloomGelu

    classes: list[Any] = [entry[0] if isinstance(entry, tuple) else entry for entry in ACT2CLS.values()]
    return [part for part in module.modules() if isinstance(part, (BloomGelu, *classes))]


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return `value`, bit for bit, with the gradient of `surrogate`.

    Examples:
        >>> x = torch.tensor([2.0], requires_grad=True)
        >>> y = with_gradient_of(x**2, 7 * x)
        >>> y.item(), torch.autograd.grad(y, x)[0].item()
        (4.0, 7.0)
    """
    return cast(Tensor, _WithGradientOf.apply(value.detach(), surrogate.to(value.dtype)))


def _layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer norm whose standard deviation is a constant."""
    value = functional.layer_norm(x, normalized_shape, weight, bias, eps)
    axes = tuple(range(-len(normalized_shape), 0))
    centred = x - x.mean(axes, keepdim=True)
    scaled = centred * (centred.detach().square().mean(axes, keepdim=True) + eps).rsqrt()
    scaled = scaled if weight is None else scaled * weight
    return with_gradient_of(value, scaled if bias is None else scaled + bias)


def _activation_rule(module: nn.Module, inputs: tuple[Tensor, ...], value: Tensor) -> Tensor:
    """Give an activation function f the gradient f(x) / x; zero where x is zero."""
    x = inputs[0]
    if not x.requires_grad:
        return value
    slope = torch.where(x == 0, 0, value / x).detach()
    return with_gradient_of(value, x * slope)


def _halved(product: Tensor, factors: Sequence[object]) -> Tensor:
    """A product with half of its gradient, if two of its factors need one."""
    n = sum(isinstance(factor, Tensor) and factor.requires_grad for factor in factors)
    return cast(Tensor, _Halved.apply(product)) if n == 2 else product


def _lowest(scores: Tensor) -> float:
    """A score that no softmax sees, and whose differences are finite."""
    return torch.finfo(scores.dtype).min / 4


class _WithGradientOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] / 2


class _Softmax(torch.autograd.Function):
    """Softmax over the last axis, with the weighted sum of its gradients at other scores; all but `scores` constant."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, finite: Tensor, points: list[Tensor], weights: list[float]) -> Tensor:
        ctx.points, ctx.weights = points, weights
        return finite.softmax(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        g = gradients[0]
        total = torch.zeros_like(g)
        for point, weight in zip(ctx.points, ctx.weights, strict=True):
            p = point.softmax(-1)
            total += weight * p * (g - (g * p).sum(-1, keepdim=True))
        return total, None, None, None
