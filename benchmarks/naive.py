"""Naive implementations of effects and ablation: transformers, forward hooks, and the whole dictionary in every pass.

They follow the formulas, deliberately without the optimisations of `interventions`: all models are in memory at once,
every pass runs from the tokens to the logits of the whole vocabulary, codes are dense `B S F` tensors with gradients,
and prompts in which a feature does not fire are run as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import GPTNeoXForCausalLM

from crosstime import CrossCoder
from interventions import Prompts


@dataclass(frozen=True, eq=False)
class Padded:
    """A batch of prompts, padded on the left.

    Attributes:
        rows: indices of the prompts.
        ids, mask: token ids, and whether a position holds a token.
        right, wrong: token ids of the answers.
    """

    rows: list[int]
    ids: Int[Tensor, "B S"]
    mask: Bool[Tensor, "B S"]
    right: Int[Tensor, " B"]
    wrong: Int[Tensor, " B"]

    def metric(self, logits: Float[Tensor, "B S V"]) -> Float[Tensor, " B"]:
        """Return ``logit(wrong) - logit(right)`` at the last token."""
        row = torch.arange(len(self.rows), device=logits.device)
        last = logits[:, -1].float()
        return last[row, self.wrong] - last[row, self.right]


@dataclass(frozen=True, eq=False)
class Dictionary:
    """The dense weights of a crosscoder, on the device and in the dtype of the models."""

    w_enc: Float[Tensor, "C D F"]
    b_enc: Float[Tensor, " F"]
    w_dec: Float[Tensor, "C F D"]
    b_dec: Float[Tensor, "C D"]
    scales: Float[Tensor, " C"]

    @classmethod
    def of(cls, crosscoder: CrossCoder, like: Tensor) -> Dictionary:
        """Copy the weights of a crosscoder to the device and dtype of `like`."""
        weights = crosscoder.W_enc, crosscoder.b_enc, crosscoder.W_dec.transpose(0, 1), crosscoder.b_dec
        return cls(*(weight.detach().to(like).contiguous() for weight in (*weights, crosscoder.scales)))

    def encode(self, x: Sequence[Float[Tensor, "B S D"]]) -> Float[Tensor, "B S F"]:
        """Return ``relu( sum_c W_enc[c] s_c x_c + b_enc )``."""
        total = sum(
            (x_c * scale) @ weight.to(x_c) for x_c, scale, weight in zip(x, self.scales, self.w_enc, strict=True)
        )
        return torch.relu(total + self.b_enc)

    def decode(self, f: Float[Tensor, "B S F"], c: int) -> Float[Tensor, "B S D"]:
        """Return ``( f W_dec[:, c] + b_dec[c] ) / s_c``."""
        return (f @ self.w_dec[c] + self.b_dec[c]) / self.scales[c]


@dataclass(frozen=True, eq=False)
class Effects:
    """Integrated gradients of one checkpoint.

    Attributes:
        feature: effect of every feature, summed over positions and averaged over prompts.
        total: sum of the effects of all features and of the error term, for each prompt.
    """

    feature: Float[Tensor, " F"]
    total: Float[Tensor, " P"]


@torch.no_grad()
def activations(module: GPTNeoXForCausalLM, batch: Padded, layer: int) -> tuple[Tensor, Tensor]:
    """Run a complete pass and return the output of a block, ``B S D``, and the metric, ``B``."""
    outputs: list[Tensor] = []
    with _hook(module, layer, lambda output: outputs.append(output)):
        metric = batch.metric(_logits(module, batch))
    return outputs[0], metric


def attribute(
    modules: Sequence[GPTNeoXForCausalLM],
    dictionary: Dictionary,
    prompts: Prompts,
    layer: int,
    *,
    max_tokens: int,
    steps: int = 10,
) -> list[Effects]:
    """Compute integrated gradients of all features at every checkpoint, towards zero, by a left Riemann sum.

    ``IE_i = -f_i * 1/steps * sum_k dm/df_i`` at ``(1 - k/steps) (f, e)``, with dm/df by autograd through the decoder.
    """
    device = modules[0].device
    feature = [torch.zeros(dictionary.w_enc.shape[2], dtype=torch.float64) for _ in modules]
    total = [torch.zeros(len(prompts), dtype=torch.float64) for _ in modules]
    for batch in padded(prompts, max_tokens, device):
        # Read and encode the activations of all checkpoints
        x = [activations(module, batch, layer)[0] for module in modules]
        f = dictionary.encode(x)
        mask = batch.mask.unsqueeze(-1)
        for c, module in enumerate(modules):
            error = x[c] - dictionary.decode(f, c)
            by_f, by_error = torch.zeros_like(f), torch.zeros_like(error)

            # Average the gradients over the path
            for step in range(steps):
                left = 1 - step / steps
                f_a, error_a = (left * f).requires_grad_(), (left * error).requires_grad_()
                with _hook(module, layer, lambda _, c=c, f=f_a, e=error_a: dictionary.decode(f, c) + e):
                    value = batch.metric(_logits(module, batch)).sum()
                for sums, gradient in zip((by_f, by_error), torch.autograd.grad(value, (f_a, error_a)), strict=True):
                    sums += gradient / steps

            # Sum the effects over positions
            effect, error_effect = -(f * by_f) * mask, -(error * by_error) * mask
            feature[c] += effect.sum((0, 1)).double().cpu()
            total[c][batch.rows] = (effect.sum((1, 2)) + error_effect.sum((1, 2))).double().cpu()
    return [Effects(sums / len(prompts), totals) for sums, totals in zip(feature, total, strict=True)]


@torch.no_grad()
def ablate(
    modules: Sequence[GPTNeoXForCausalLM],
    dictionary: Dictionary,
    prompts: Prompts,
    layer: int,
    features: Sequence[int],
    *,
    max_tokens: int,
) -> Float[Tensor, "C K P"]:
    """Return the change of the metric when one feature is zero, with a clean and a patched pass for each feature."""
    changes = torch.zeros(len(modules), len(features), len(prompts))
    for k, feature in enumerate(features):
        for batch in padded(prompts, max_tokens, modules[0].device):
            x, clean = zip(*(activations(module, batch, layer) for module in modules), strict=True)
            f = dictionary.encode(x)
            ablated = f.clone()
            ablated[..., feature] = 0
            for c, module in enumerate(modules):
                patched = dictionary.decode(ablated, c) + (x[c] - dictionary.decode(f, c))
                with _hook(module, layer, lambda _, patched=patched: patched):
                    value = batch.metric(_logits(module, batch))
                changes[c, k, batch.rows] = (value - clean[c]).cpu()
    return changes


class _Stop(Exception):
    """Stops a forward pass at the requested layer."""


@torch.no_grad()
def fetch(module: GPTNeoXForCausalLM, prompts: Prompts, layer: int, *, max_tokens: int) -> Float[Tensor, "T D"]:
    """Return the output of a block at all tokens, from a forward hook that stops the pass with an exception."""
    by_prompt: list[Tensor] = [torch.empty(0)] * len(prompts)
    for batch in padded(prompts, max_tokens, module.device):
        outputs: list[Tensor] = []

        def stop(output: Tensor, outputs: list[Tensor] = outputs) -> None:
            outputs.append(output)
            raise _Stop

        with _hook(module, layer, stop):
            try:
                module.gpt_neox(**_inputs(batch))
            except _Stop:
                flat = outputs[0][batch.mask].cpu()
        for row, tokens in zip(batch.rows, flat.split(batch.mask.sum(1).tolist()), strict=True):
            by_prompt[row] = tokens
    return torch.cat(by_prompt)


def padded(prompts: Prompts, max_tokens: int, device: torch.device) -> Iterator[Padded]:
    """Sort prompts by length and cut them into batches of at most `max_tokens` tokens, including padding.

    Examples:
        >>> batches = padded(Prompts(((5, 6), (7,)), (1, 2), (3, 4)), 8, torch.device("cpu"))
        >>> next(batches).ids.tolist()
        [[0, 7], [5, 6]]
    """
    remaining = sorted(range(len(prompts)), key=lambda row: len(prompts.ids[row]))
    while remaining:
        count = 1
        while count < len(remaining) and (count + 1) * len(prompts.ids[remaining[count]]) <= max_tokens:
            count += 1
        rows, remaining = remaining[:count], remaining[count:]
        width = len(prompts.ids[rows[-1]])
        gap = [width - len(prompts.ids[row]) for row in rows]
        yield Padded(
            rows,
            torch.tensor([[0] * pad + list(prompts.ids[row]) for pad, row in zip(gap, rows, strict=True)]).to(device),
            torch.tensor([[False] * pad + [True] * (width - pad) for pad in gap]).to(device),
            torch.tensor([prompts.right[row] for row in rows]).to(device),
            torch.tensor([prompts.wrong[row] for row in rows]).to(device),
        )


def _inputs(batch: Padded) -> dict[str, Tensor | bool]:
    mask = batch.mask.long()
    position = (mask.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": batch.ids, "attention_mask": mask, "position_ids": position, "use_cache": False}


def _logits(module: GPTNeoXForCausalLM, batch: Padded) -> Float[Tensor, "B S V"]:
    return module(**_inputs(batch)).logits


@contextmanager
def _hook(module: GPTNeoXForCausalLM, layer: int, function: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Call a function on the output of a block; a return value other than None replaces the output."""
    handle = module.gpt_neox.layers[layer].register_forward_hook(lambda _, __, output: function(output))
    try:
        yield
    finally:
        handle.remove()
