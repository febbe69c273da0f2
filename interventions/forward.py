"""The forward passes: all nnsight traces of the package are here, in `validation` and in `remote.probe`.

A pass runs only the blocks that it needs.

1. `read` stops the model at the last of the sites that it reads.
2. `resume` starts at a site whose activation the caller supplies: it skips every block below, with the known output in
   its place.
3. `run` starts at the tokens and edits any number of sites.
4. `resume` and `run` end at the final norm, because the caller needs few logits: those of the last token, often of two
   answers only. `logits` and `answer_logits` compute them from the norm's output.
5. `gradient` returns the gradient of a metric at several points of a path, in one request to a server.

A model whose logits are not exactly the unembedding of that norm's output, for example because of a soft cap, runs to
its end. So does a model on a server, where a function `reduce` turns the logits into the few numbers that are needed
before anything is sent back. In the shapes below, W is D where the pass ends at the norm and V where it ends at the
logits.

The source of a traced block may be sent to a server together with everything that it names. A block therefore names
envoys, tensors, numbers and `reduce`, which is a lambda of tensors, and never a function or class of this package.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping

import nnsight
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from interventions import architectures
from interventions.bare_model import BareModel
from interventions.errors import InterventionError
from interventions.prompts import Batch
from interventions.site import Site

Edit = Callable[[Tensor], Tensor]
"""A function that takes an activation ``B S D`` and returns its replacement."""
Reduction = Callable[[Tensor], Tensor]
"""A function of the logits, ``B V`` or ``B S V``, that runs where the model does and whose result is returned."""


def inputs(batch: Batch, n_slots: int | None = None) -> dict[str, Tensor]:
    """Build the model's arguments for a left-padded batch, or for its last `n_slots` slots.

    Position ids count from the first token of each row.
    """
    mask = batch.mask.long()
    slots = slice(0 if n_slots is None else mask.shape[1] - n_slots, None)
    return {
        "input_ids": batch.input_ids[:, slots],
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)[:, slots],
    }


def read(
    model: BareModel, batch: Batch, sites: Iterable[Site], *, slots: Bool[Tensor, "B S"] | None = None
) -> dict[Site, Float[Tensor, "B S D"]]:
    """Read the activations at `sites`; the model stops at the last of them.

    Args:
        model: the model to run.
        batch: the sequences.
        sites: where to read.
        slots: the slots to read. A server sends only these, and the others are zero; without it, it sends the slots
            that hold a token. A model that runs here ignores it.

    Examples:
        >>> read(model, batch, [Site(1), Site(2, "mlp")])[Site(1)].shape  # doctest: +SKIP
        torch.Size([4, 9, 64])
    """
    ordered = sorted({site.resolve(model.n_layers) for site in sites}, key=lambda site: site.order)
    envoys = [model.envoy(site) for site in ordered]
    sent, wire = None, None
    if model.remote is not None:
        sent, wire = batch.mask if slots is None else slots & batch.mask, model.remote.wire_dtype

    # Run the blocks up to the last site
    with torch.no_grad(), model.nnsight.trace(inputs(batch), use_cache=False, **model.trace_options) as tracer:
        activations = []
        for envoy in envoys:
            value = envoy.output
            value = value[0] if isinstance(value, tuple) else value
            activations.append(value if sent is None else value[sent.to(value.device)].to(wire or value.dtype))
        activations = nnsight.save(activations)
        tracer.stop()
    _collect_stopped_pass()

    # Put what a server sent back into its slots
    if sent is not None:
        activations = [_scatter(rows, sent, model.dtype) for rows in activations]
    return {site: _check_tensor(activation) for site, activation in zip(ordered, activations, strict=True)}


def resume(
    model: BareModel,
    batch: Batch,
    site: Site,
    x: Float[Tensor, "B S D"],
    *,
    below: Float[Tensor, "B S D"] | None = None,
    all_positions: bool = False,
    reduce: Reduction | None = None,
    cache: DynamicCache | None = None,
) -> Tensor:
    """Run the model from `site` upward with activation `x` there, differentiably in `x`.

    At a residual site all blocks up to the site are skipped. At an attention or MLP the blocks below it are skipped if
    `below` is given. In the last block, the modules that compute every position independently (attention's output
    projection and the MLP) run at the last position only: their one row is added to the residual stream of every
    position, and only the last position is read.

    Args:
        model: the model to run.
        batch: the sequences.
        site: where `x` is.
        x: the activation, in all slots, or in the last slots when `cache` covers the others.
        below: the residual stream that enters the site's block, in the slots of `x`.
        all_positions: return all positions instead of the last.
        reduce: applied to the logits where the model runs.
        cache: keys and values of the batch's first slots, which then do not run. An empty cache is filled with those of
            all slots.

    Returns:
        The final norm's output or the logits, ``B W`` (``B S W`` with `all_positions`), for `logits` or
        `answer_logits`; with `reduce`, its result.
    """
    # Find the modules that are skipped, edited and narrowed to the last position
    site = site.resolve(model.n_layers)
    envoy, at_residual, remote = model.envoy(site), site.component == "resid", model.remote is not None
    narrows = site.layer < model.n_layers - 1 and not all_positions
    narrowed = [model.blocks[model.n_layers - 1].get(path) for path in (model.pointwise if narrows else ())]
    embedding, tuple_length, linear = model.embedding, model.block_tuple, model.head_is_linear
    skipped, last_module = _skipped_blocks(model, site, below), _last_module(model)

    # Collect the arguments of the trace
    x = _packed(model, x)
    below = None if below is None else _packed(model, below)
    options: dict[str, object] = {"use_cache": cache is not None, **model.trace_options}
    if cache is not None:
        options[model.cache_argument] = cache
    if not all_positions:
        options |= model.last_logits

    # Run the blocks above the site
    with model.nnsight.trace(inputs(batch, x.shape[1]), **options) as tracer:
        if remote:
            # Tensors that were sent take the device and dtype of the model's own.
            like = embedding.output
            x, below = x.to(like), None if below is None else below.to(like)
        known = x if at_residual else below
        for block in skipped:
            block.skip((known, *([None] * (tuple_length - 1))) if tuple_length else known)
        if not at_residual:
            envoy.output = x
        for module in narrowed:
            # Contiguous, or every row would be multiplied with its own copy of the weights.
            module.input = module.input[:, -1:].contiguous()
        end = last_module.output if linear else last_module.output.logits
        if not all_positions:
            # A copy, since a slice would be sent with the whole tensor that it views.
            end = end[:, -1].clone() if remote else end[:, -1]
        end = nnsight.save(end if reduce is None else reduce(end))
        tracer.stop()
    _collect_stopped_pass()
    return end


def gradient(
    model: BareModel,
    batch: Batch,
    site: Site,
    path: tuple[Float[Tensor, "B S D"], Float[Tensor, "B S D"]],
    rule: tuple[Float[Tensor, " N"], Float[Tensor, " N"]],
    reduce: Reduction,
    *,
    below: Float[Tensor, "B S D"] | None = None,
) -> Float[Tensor, "B S D"]:
    """Return ``sum_k w_k dm/dx`` at ``x = start + a_k (end - start)``, all nodes in one request to a server.

    Two activations are sent and one gradient comes back, whatever the number of nodes.

    Args:
        model: a model that runs remotely.
        batch: the sequences.
        site: where the path lies.
        path: start and end.
        rule: nodes a and weights w.
        reduce: the metric m as a function of the logits of all nodes' rows, node after node.
        below: the residual stream that enters the site's block.
    """
    # Find the modules that are skipped and edited
    site = site.resolve(model.n_layers)
    envoy, at_residual = model.envoy(site), site.component == "resid"
    embedding, tuple_length, root = model.embedding, model.block_tuple, model.nnsight
    skipped = _skipped_blocks(model, site, below)
    wire = None if model.remote is None else model.remote.wire_dtype

    # Collect the tensors that are sent
    nodes, weights = rule
    n = len(nodes)
    repeated = batch.repeat(n)
    start, end = (_packed(model, x) for x in path)
    below = None if below is None else _packed(model, below)

    # Run all nodes and differentiate the weighted sum of their metrics
    options = {"use_cache": False, **model.last_logits, **model.trace_options}
    with root.trace(inputs(repeated), **options) as tracer:
        # One row for each node and prompt; a shift of zero that all nodes share receives the gradient.
        like = embedding.output
        a, b = start.to(like), end.to(like)
        alpha = nodes.to(like).view(-1, 1, 1, 1)
        shift = torch.zeros_like(a).requires_grad_(True)
        x = (a + alpha * (b - a) + shift).flatten(0, 1)

        # Tensors that were sent take the place of what the skipped blocks compute.
        known = x if at_residual else (None if below is None else below.to(like).repeat(n, 1, 1))
        for block in skipped:
            block.skip((known, *([None] * (tuple_length - 1))) if tuple_length else known)
        if not at_residual:
            envoy.output = x

        values = reduce(root.output.logits[:, -1]).view(n, -1)
        total = (values * weights.to(values).unsqueeze(1)).sum()
        slope = torch.autograd.grad(total, shift)[0]
        slope = nnsight.save(slope.to(wire or torch.float32))
        tracer.stop()
    return slope.float()


def run(
    model: BareModel,
    batch: Batch,
    edits: Mapping[Site, Edit] | Mapping[str, Edit] | None = None,
    *,
    all_positions: bool = False,
    reduce: Reduction | None = None,
    cache: DynamicCache | None = None,
    n_slots: int | None = None,
) -> Tensor:
    """Run the model from the tokens, with any number of sites edited on the way.

    Args:
        model: the model to run.
        batch: the sequences.
        edits: a function for each site to edit, or for its text.
        all_positions: return all positions instead of the last.
        reduce: applied to the logits where the model runs.
        cache: keys and values of the batch's first slots, which then do not run. An empty cache is filled with those of
            all slots.
        n_slots: how many of the last slots run when `cache` covers the others; None runs all.

    Returns:
        The final norm's output or the logits, ``B W`` (``B S W`` with `all_positions`), for `logits` or
        `answer_logits`; with `reduce`, its result.

    Examples:
        >>> logits(model, run(model, batch, {Site(1): lambda x: x * 0}))  # doctest: +SKIP
    """
    edited = {Site.of(site).resolve(model.n_layers): edit for site, edit in (edits or {}).items()}
    steps = [(model.envoy(site), edited[site]) for site in sorted(edited, key=lambda site: site.order)]
    linear, last_module, remote = model.head_is_linear, _last_module(model), model.remote is not None
    options: dict[str, object] = {"use_cache": cache is not None, **model.trace_options}
    if cache is not None:
        options[model.cache_argument] = cache
    if not all_positions:
        options |= model.last_logits

    with torch.no_grad(), model.nnsight.trace(inputs(batch, n_slots), **options) as tracer:
        for envoy, edit in steps:
            value = envoy.output
            if isinstance(value, tuple):
                envoy.output = (edit(value[0]), *value[1:])
            else:
                envoy.output = edit(value)
        end = last_module.output if linear else last_module.output.logits
        if not all_positions:
            end = end[:, -1].clone() if remote else end[:, -1]
        end = nnsight.save(end if reduce is None else reduce(end))
        tracer.stop()
    _collect_stopped_pass()
    return end


def logits(model: BareModel, end: Float[Tensor, "*B W"]) -> Float[Tensor, "*B V"]:
    """Return the logits of the whole vocabulary from the result of `run` or `resume`."""
    return model.unembedding(end) if model.head_is_linear else end


def answer_logits(model: BareModel, end: Float[Tensor, "B W"], token: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return the logit of one token for each prompt, from one row of the unembedding where that suffices."""
    if not model.head_is_linear:
        return end.gather(1, token.unsqueeze(1)).squeeze(1)
    head = model.unembedding
    # Rounding each logit to half precision would cost most of the digits of a difference.
    row, end = architectures.weight(head)[token].float(), end.float()
    logit = torch.einsum("bd,bd->b", end, row)
    bias = getattr(head, "bias", None)
    return logit if bias is None else logit + bias[token]


def _collect_stopped_pass() -> None:
    """Free the activations of a stopped pass.

    nnsight ends a pass by an exception that forms a reference cycle with the pass's frames and so keeps their
    activations, tens of megabytes in a loop over batches, until Python's garbage collector happens to run. The objects
    are young, so that collecting the two youngest generations suffices.
    """
    gc.collect(1)


def _last_module(model: BareModel) -> nnsight.Envoy:
    """Return the module whose output ends a pass."""
    return model.norm if model.head_is_linear else model.nnsight


def _skipped_blocks(model: BareModel, site: Site, below: Tensor | None) -> list[nnsight.Envoy]:
    """Return the blocks whose output is known from the activation at `site`, or from `below`."""
    n_blocks = site.layer + 1 if site.component == "resid" else (0 if below is None else site.layer)
    return [model.blocks[layer] for layer in range(n_blocks)]


def _packed(model: BareModel, x: Tensor) -> Tensor:
    """Return an activation as it is sent to a server: in the wire's dtype, and a copy if it views a larger tensor."""
    if model.remote is None:
        return x
    return x.detach().to(model.remote.wire_dtype or x.dtype).clone()


def _scatter(rows: Float[Tensor, "T D"], slots: Bool[Tensor, "B S"], dtype: torch.dtype) -> Float[Tensor, "B S D"]:
    """Put the rows that a server sent into their slots, with zeros elsewhere."""
    out = torch.zeros(*slots.shape, rows.shape[-1], dtype=dtype)
    out[slots.cpu()] = rows.to(dtype)
    return out


def _check_tensor(value: object) -> Tensor:
    """Return a block's output if it is a tensor."""
    if not isinstance(value, Tensor):
        raise InterventionError(f"A block returned {type(value).__name__}, neither a tensor nor a tuple of them.")
    return value
