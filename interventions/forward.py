"""The forward passes: every nnsight trace of the project is in this file, in `validation` and in `remote.probing`.

A pass is cut where it can be. `read` stops the model at the last site that it wants. `resume` starts it
at a residual site whose activation the caller supplies, by skipping every block up to there. Both `run`
and `resume` end at the final norm, because the caller wants few logits: the last token's, often of two
answers only. `logits` and `answer_logits` compute them. A model whose logits are more than a matrix times
that norm's output (a soft cap, say) runs to its end, and W below is V instead of D.

So does a model on a server, where `then` saves the way back: it makes the few numbers that are wanted out of the logits
before they leave. A block that is traced may be sent away, with all that it names: it names envoys, tensors, numbers
and `then`, which is a lambda of tensors, never anything of this package.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping

import nnsight
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from interventions.errors import InterventionError
from interventions.model import Model
from interventions.prompts import Batch
from interventions.site import Site

Edit = Callable[[Tensor], Tensor]
"""What to do with an activation of shape B S D: a function that returns its replacement."""
Then = Callable[[Tensor], Tensor]
"""What is made of the logits, B V or B S V, where the model runs."""


def inputs(batch: Batch, last: int | None = None) -> dict[str, Tensor]:
    """Model inputs of a left-padded batch, or of its `last` slots; positions count from each row's first token."""
    mask = batch.mask.long()
    some = slice(0 if last is None else mask.shape[1] - last, None)
    return {
        "input_ids": batch.input_ids[:, some],
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)[:, some],
    }


def read(
    model: Model, batch: Batch, sites: Iterable[Site], *, kept: Bool[Tensor, "B S"] | None = None
) -> dict[Site, Float[Tensor, "B S D"]]:
    """Activations at `sites`; the model stops at the last of them.

    A server sends those of the tokens only, or of the slots in `kept` only; the others are zero then.

    Examples:
        >>> read(model, batch, [Site(1), Site(2, "mlp")])[Site(1)].shape  # doctest: +SKIP
        torch.Size([4, 9, 64])
    """
    wanted = sorted({site.resolve(model.n_layers) for site in sites}, key=lambda site: site.order)
    envoys = [model.envoy(site) for site in wanted]
    slots, wire = None, None
    if model.remote is not None:
        slots, wire = batch.mask if kept is None else kept & batch.mask, model.remote.wire_dtype
    with torch.no_grad(), model.nnsight.trace(inputs(batch), use_cache=False, **model.where()) as tracer:
        found = []
        for envoy in envoys:
            value = envoy.output
            value = value[0] if isinstance(value, tuple) else value
            found.append(value if slots is None else value[slots.to(value.device)].to(wire or value.dtype))
        found = nnsight.save(found)
        tracer.stop()
    _let_go()
    if slots is not None:
        found = [_spread(value, slots, model.dtype) for value in found]
    return {site: _hidden(value) for site, value in zip(wanted, found, strict=True)}


def resume(
    model: Model,
    batch: Batch,
    site: Site,
    x: Float[Tensor, "B S D"],
    *,
    below: Float[Tensor, "B S D"] | None = None,
    all_positions: bool = False,
    then: Then | None = None,
    past: DynamicCache | None = None,
) -> Tensor:
    """What the head sees at the last token (or all tokens) when `x` is the activation at `site`.

    Blocks whose output is known do not run: they are skipped, with that output in their place. At a residual
    site these are all blocks up to it; at an attention or MLP, the blocks below, if `below`, the residual stream
    entering the site's block, is given. What works at every position by itself in the last block,
    attention's last product and the MLP, runs at the last token only: its output is added to all of them, and the
    others are not read. Differentiable in `x`. Give the result to `logits` or `answer_logits`.

    With a `past`, the keys and values of a batch's first slots, `x` and `below` have the slots after these, which alone
    run. An empty one is filled with the keys and values of all.
    """
    site = site.resolve(model.n_layers)
    envoy, at_residual, away = model.envoy(site), site.component == "resid", model.remote is not None
    narrow = site.layer < model.n_layers - 1 and not all_positions
    narrowed = [model.blocks[model.n_layers - 1].get(path) for path in (model.pointwise if narrow else ())]
    embedding, width, linear = model.embedding, model.block_tuple, model.head_is_linear
    skipped, end_of = _skipped(model, site, below), _end(model)
    x, below = _packed(model, x), _packed(model, below)
    few = {} if all_positions else model.last_logits
    kept = {"use_cache": past is not None} | ({} if past is None else {"past_key_values": past})
    with model.nnsight.trace(inputs(batch, x.shape[1]), **kept, **few, **model.where()) as tracer:
        if away:
            # What was sent takes the place and dtype of what it is put among.
            like = embedding.output
            x, below = x.to(like), None if below is None else below.to(like)
        known = x if at_residual else below
        for block in skipped:
            block.skip((known, *([None] * (width - 1))) if width else known)
        if not at_residual:
            envoy.output = x
        for module in narrowed:
            # Contiguous, or every row would be multiplied with a copy of the weights of its own.
            module.input = module.input[:, -1:].contiguous()
        end = end_of.output if linear else end_of.output.logits
        if not all_positions:
            # A copy, for a slice would be sent with all that it was cut from.
            end = end[:, -1].clone() if away else end[:, -1]
        end = (end if then is None else then(end)).save()
        tracer.stop()
    _let_go()
    return end


def gradient(
    model: Model,
    batch: Batch,
    site: Site,
    start: Float[Tensor, "B S D"],
    end: Float[Tensor, "B S D"],
    nodes: Float[Tensor, " N"],
    weights: Float[Tensor, " N"],
    then: Then,
    *,
    below: Float[Tensor, "B S D"] | None = None,
) -> Float[Tensor, "B S D"]:
    """``sum_k w_k dm/dx`` at ``x = start + a_k (end - start)``, all nodes in one request to a server.

    Two states go there and one gradient comes back, however many nodes there are. `then` makes the metric m of the
    logits of all nodes' rows, node after node.
    """
    site = site.resolve(model.n_layers)
    envoy, at_residual, n = model.envoy(site), site.component == "resid", len(nodes)
    embedding, width, root, wire = model.embedding, model.block_tuple, model.nnsight, model.remote.wire_dtype
    skipped, repeated = _skipped(model, site, below), batch.repeat(n)
    start, end, below = (_packed(model, value) for value in (start, end, below))
    with root.trace(inputs(repeated), use_cache=False, **model.last_logits, **model.where()) as tracer:
        like = embedding.output
        a, b = start.to(like), end.to(like)
        alpha = nodes.to(like).view(-1, 1, 1, 1)
        moved = torch.zeros_like(a).requires_grad_(True)
        x = (a + alpha * (b - a) + moved).flatten(0, 1)
        known = x if at_residual else (None if below is None else below.to(like).repeat(n, 1, 1))
        for block in skipped:
            block.skip((known, *([None] * (width - 1))) if width else known)
        if not at_residual:
            envoy.output = x
        values = then(root.output.logits[:, -1]).view(n, -1)
        total = (values * weights.to(values).unsqueeze(1)).sum()
        found = torch.autograd.grad(total, moved)[0]
        found = found.to(wire or torch.float32).save()
        tracer.stop()
    return found.float()


def run(
    model: Model,
    batch: Batch,
    edits: Mapping[Site, Edit] | None = None,
    *,
    all_positions: bool = False,
    then: Then | None = None,
) -> Tensor:
    """What the head sees in a whole pass from the tokens, with any number of sites edited on the way.

    Examples:
        >>> logits(model, run(model, batch, {Site(1): lambda x: x * 0}))  # doctest: +SKIP
    """
    edits = {site.resolve(model.n_layers): edit for site, edit in (edits or {}).items()}
    steps = [(model.envoy(site), edits[site]) for site in sorted(edits, key=lambda site: site.order)]
    linear, end_of, away = model.head_is_linear, _end(model), model.remote is not None
    few = {} if all_positions else model.last_logits
    with torch.no_grad(), model.nnsight.trace(inputs(batch), use_cache=False, **few, **model.where()) as tracer:
        for envoy, edit in steps:
            value = envoy.output
            if isinstance(value, tuple):
                envoy.output = (edit(value[0]), *value[1:])
            else:
                envoy.output = edit(value)
        end = end_of.output if linear else end_of.output.logits
        if not all_positions:
            end = end[:, -1].clone() if away else end[:, -1]
        end = (end if then is None else then(end)).save()
        tracer.stop()
    _let_go()
    return end


def logits(model: Model, end: Float[Tensor, "*B W"]) -> Float[Tensor, "*B V"]:
    """Logits of the whole vocabulary from what `run` or `resume` returned."""
    return model.unembedding(end) if model.head_is_linear else end


def answer_logits(model: Model, end: Float[Tensor, "B W"], token: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The logit of one token a prompt: one row of the unembedding where that is enough."""
    if not model.head_is_linear:
        return end.gather(1, token.unsqueeze(1)).squeeze(1)
    head = model.unembedding
    logit = torch.einsum("bd,bd->b", end, head.weight[token])
    bias = getattr(head, "bias", None)
    return logit if bias is None else logit + bias[token]


def _let_go() -> None:
    """Free what a stopped pass leaves: the exception that ends it is held by a frame that its own traceback holds.

    With that go all frames of the pass and the activations in them, which would stay until Python happens to look
    for cycles: tens of megabytes in a loop over batches. They are young, so a look at the young is enough.
    """
    gc.collect(1)


def _end(model: Model) -> nnsight.Envoy:
    """The last thing that a trace waits for."""
    return model.norm if model.head_is_linear else model.nnsight


def _skipped(model: Model, site: Site, below: Tensor | None) -> list[nnsight.Envoy]:
    """The blocks whose output is known when the activation at `site` is, and `below` where it is needed."""
    n_blocks = site.layer + 1 if site.component == "resid" else (0 if below is None else site.layer)
    return [model.blocks[layer] for layer in range(n_blocks)]


def _packed(model: Model, x: Tensor | None) -> Tensor | None:
    """An activation as it travels: without what it was cut from, and in the dtype of the wire."""
    if x is None or model.remote is None:
        return x
    return x.detach().to(model.remote.wire_dtype or x.dtype).clone()


def _spread(rows: Float[Tensor, "T D"], slots: Bool[Tensor, "B S"], dtype: torch.dtype) -> Float[Tensor, "B S D"]:
    """Lay the slots that a server sent out among zeros."""
    out = torch.zeros(*slots.shape, rows.shape[-1], dtype=dtype)
    out[slots.cpu()] = rows.to(dtype)
    return out


def _hidden(value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise InterventionError(f"A block returned {type(value).__name__}, neither a tensor nor a tuple of them.")
    return value
