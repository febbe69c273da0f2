"""The same quantities by transformers and forward hooks alone: one prompt at a time, without padding or nnsight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from interventions import Site

BLOCKS = {"gpt_neox": "gpt_neox.layers", "bloom": "transformer.h", "gpt2": "transformer.h"}
ATTENTION = {
    "gpt_neox": "attention.dense",
    "bloom": "self_attention.dense",
    "gpt2": "attn.c_proj",
    "olmo2": "post_attention_layernorm",
}
MLP = {"bloom": "mlp.dense_4h_to_h", "olmo2": "post_feedforward_layernorm"}
MIDDLE = {"gpt2": "ln_2", "olmo2": "mlp"}
"""Path of the module whose input is the residual stream between a block's attention and MLP."""


def blocks(module: nn.Module) -> nn.ModuleList:
    return module.get_submodule(BLOCKS.get(module.config.model_type, "model.layers"))


def module_at(module: nn.Module, site: Site) -> nn.Module:
    block, kind = blocks(module)[site.layer], module.config.model_type
    if site.component == "resid":
        return block
    if site.component == "attn":
        return block.get_submodule(ATTENTION.get(kind, "self_attn.o_proj"))
    return block.get_submodule(MLP.get(kind, "mlp"))


def first(value: Tensor | tuple) -> Tensor:
    return value[0] if isinstance(value, tuple) else value


def logits(
    module: nn.Module,
    ids: list[int] | tuple[int, ...],
    edits: Mapping[Site, Callable[[Tensor], Tensor]] | None = None,
) -> Tensor:
    """Compute the logits S V of one prompt, with activations ``1 S D`` edited by forward hooks."""
    return copies(module, ids, 1, edits)[0]


def copies(
    module: nn.Module,
    ids: list[int] | tuple[int, ...],
    n: int,
    edits: Mapping[Site, Callable[[Tensor], Tensor]] | None = None,
) -> Tensor:
    """Compute the logits n S V of n copies of one prompt, with activations ``n S D`` edited by forward hooks."""

    def hook_of(edit: Callable[[Tensor], Tensor]):
        def hook(_module, _args, output):
            return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)

        return hook

    with ExitStack() as stack:
        for site, edit in (edits or {}).items():
            stack.callback(module_at(module, site).register_forward_hook(hook_of(edit)).remove)
        return module(input_ids=torch.tensor([list(ids)] * n), use_cache=False).logits


@torch.no_grad()
def residual_parts(module: nn.Module, ids: list[int] | tuple[int, ...]) -> dict[Site, Tensor]:
    """Return one prompt's activation S D at every site; attention and MLP as differences of the residual stream.

    GPT-NeoX adds both to the block's input at once, so there the outputs of its two modules are read instead.
    """
    activations: dict[Site, Tensor] = {}
    kind = module.config.model_type
    with ExitStack() as stack:
        for layer, block in enumerate(blocks(module)):
            name = MIDDLE.get(kind, "post_attention_layernorm")
            points: dict[str, Tensor] = {}

            def keep_input(_module, args, kwargs, *, points=points, key):
                points[key] = args[0] if args else kwargs["hidden_states"]

            def keep_output(_module, _args, output, *, points=points, key):
                points[key] = first(output)

            def at(key: str, function):
                return lambda *args: function(*args, key=key)

            def finish(_module, _args, output, *, layer=layer, points=points):
                out = first(output)
                activations[Site(layer)] = out[0]
                if kind == "gpt_neox":
                    activations[Site(layer, "attn")], activations[Site(layer, "mlp")] = (
                        points["attn"][0],
                        points["mlp"][0],
                    )
                else:
                    activations[Site(layer, "attn")] = (points["middle"] - points["in"])[0]
                    activations[Site(layer, "mlp")] = (out - points["middle"])[0]

            if kind == "gpt_neox":
                handles = [
                    block.attention.register_forward_hook(at("attn", keep_output)),
                    block.mlp.register_forward_hook(at("mlp", keep_output)),
                ]
            else:
                middle = block.get_submodule(name)
                handles = [
                    block.register_forward_pre_hook(at("in", keep_input), with_kwargs=True),
                    middle.register_forward_pre_hook(at("middle", keep_input), with_kwargs=True),
                ]
            handles.append(block.register_forward_hook(finish))
            for handle in handles:
                stack.callback(handle.remove)
        module(input_ids=torch.tensor([list(ids)]), use_cache=False)
    return activations


def residual(module: nn.Module, ids: list[int] | tuple[int, ...], layer: int) -> Tensor:
    """Return one block's output for one prompt, S D."""
    return residual_parts(module, ids)[Site(layer)]


def difference(last: Tensor, right: int, wrong: int) -> Tensor:
    """logit(wrong) - logit(right) at the last token."""
    return last[wrong] - last[right]


METRICS: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "logit_difference": difference,
    "log_prob_difference": lambda last, right, wrong: last.log_softmax(0)[wrong] - last.log_softmax(0)[right],
    "probability_difference": lambda last, right, wrong: last.softmax(0)[wrong] - last.softmax(0)[right],
    "cross_entropy": lambda last, right, wrong: -last.log_softmax(0)[right],
}


class Dictionary:
    """A ReLU dictionary with random weights in double precision, whose codes are dense."""

    def __init__(self, d_model: int, n_features: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.encoder = torch.randn(d_model, n_features, generator=generator, dtype=torch.float64) / d_model**0.5
        self.threshold = 0.3 * torch.rand(n_features, generator=generator, dtype=torch.float64)
        self.directions = torch.randn(n_features, d_model, generator=generator, dtype=torch.float64) / n_features**0.5
        self.bias = 0.2 * torch.randn(d_model, generator=generator, dtype=torch.float64)

    def encode(self, x: Tensor) -> Tensor:
        return (x.double() @ self.encoder - self.threshold).relu().to(x.dtype)

    def decode(self, f: Tensor) -> Tensor:
        return f @ self.directions + self.bias


def gradient_effects(
    module: nn.Module,
    dictionary: Dictionary,
    layer: int,
    clean: tuple[int, ...],
    patch: tuple[int, ...] | None,
    right: int,
    wrong: int,
    nodes: list[float],
    weights: list[float],
    metric: Callable[[Tensor, int, int], Tensor] = difference,
) -> tuple[Tensor, Tensor]:
    """Compute ``(f' - f) sum_k w_k dm/df`` of one prompt (S F) and its error term, by autograd through all features."""
    x = residual(module, clean, layer)
    f = dictionary.encode(x)
    e = x - dictionary.decode(f)
    f_end, e_end = torch.zeros_like(f), torch.zeros_like(e)
    if patch is not None:
        x_patch = residual(module, patch, layer)
        f_end = dictionary.encode(x_patch)
        e_end = x_patch - dictionary.decode(f_end)
    a = torch.tensor(nodes, dtype=torch.float64).view(-1, 1, 1)
    f_a = ((1 - a) * f + a * f_end).requires_grad_()
    e_a = ((1 - a) * e + a * e_end).requires_grad_()
    last = copies(module, clean, len(a), {Site(layer): lambda _: dictionary.decode(f_a) + e_a})[:, -1]
    value = sum(weight * metric(row, right, wrong) for weight, row in zip(weights, last, strict=True))
    by_f, by_e = torch.autograd.grad(value, (f_a, e_a))
    return ((f_end - f) * by_f.sum(0)).detach(), ((e_end - e) * by_e.sum(0)).sum().detach()
