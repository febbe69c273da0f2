"""Try a freshly opened model: are its parts where the architecture says, and do interventions hold?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor
from transformers.cache_utils import DynamicCache

from interventions.errors import ArchitectureError, CheckpointLoadError
from interventions.prompts import Batch, Sequences

if TYPE_CHECKING:
    from interventions.model import Model


@dataclass(frozen=True)
class Findings:
    """What a model's first passes showed."""

    block_tuple: int
    components: tuple[str, ...]
    head_is_linear: bool
    pointwise: tuple[str, ...]


def validate(model: Model) -> Findings:
    """Run `model` on two short left-padded sequences and compare ways that must agree.

    Held: the configuration's layer count and width; that skipping every block up to a site and giving
    the site its own activation leaves the logits unchanged; that the unembedding of the final norm's
    output is the logits (else `head_is_linear` is False); which modules of the last block may be given the
    last position only (`pointwise`: attention's last product and the MLP, the MLP alone, or none); that
    attention and MLP outputs add up to the difference that a block makes (else these two components are not offered).

    Raises:
        ArchitectureError: one of the first two does not hold.
        CheckpointLoadError: the model computes NaN or infinity.
    """
    name, config = model.name, model.config
    expected = getattr(config, "num_hidden_layers", model.n_layers)
    if model.n_layers != expected:
        raise ArchitectureError(
            f"{name}: {model.architecture.blocks} has {model.n_layers} blocks, but the configuration says "
            f"{expected}; name the list of decoder blocks with interventions.register."
        )
    batch = probe(model)
    try:
        outputs, normed, logits = _passes(model, batch)
    except OutOfOrderError as error:
        raise ArchitectureError(
            f"{name}: the parts of its architecture do not run in the order attention, MLP, block, final norm "
            f"({str(error).splitlines()[0]}); name them with interventions.register."
        ) from error
    first = outputs["block"][0]
    block_tuple = len(first) if isinstance(first, tuple) else 0
    blocks = [output[0] if isinstance(output, tuple) else output for output in outputs["block"]]
    for layer, hidden in enumerate(blocks):
        if not isinstance(hidden, Tensor) or hidden.shape != (*batch.mask.shape, model.d_model):
            got = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
            raise ArchitectureError(
                f"{name}: block {layer} returns {got}, expected hidden states of shape "
                f"{(*batch.mask.shape, model.d_model)}; name the decoder blocks with interventions.register."
            )
    if not isinstance(normed, Tensor) or normed.shape != (*batch.mask.shape, model.d_model):
        raise ArchitectureError(
            f"{name}: {model.architecture.norm!r} does not give hidden states of shape "
            f"{(*batch.mask.shape, model.d_model)}, so it is not the final norm; name it with interventions.register."
        )
    if not all(bool(hidden[batch.mask].isfinite().all()) for hidden in (*blocks, logits)):
        raise CheckpointLoadError(f"{name} computes NaN or infinity on ordinary tokens: its weights are damaged.")
    tolerance = 1e-4 if model.dtype == torch.float32 else 0.05
    middle = (model.n_layers - 1) // 2
    known = blocks[middle], outputs["block"][middle]
    paths = model.architecture.pointwise
    choices = (paths[first:] for first in range(len(paths)))
    pointwise = next((some for some in choices if _narrows(model, batch, middle, *known, normed, tolerance, some)), ())
    if not pointwise and not close(_resume(model, batch, middle, *known), normed[:, -1], tolerance):
        raise ArchitectureError(
            f"{name}: giving block {middle} its own output changes the result, so its blocks or its final norm "
            f"{model.architecture.norm!r} are not what they seem; name them with interventions.register."
        )
    head_is_linear = close(model.unembedding(normed)[:, -1], logits[:, -1], tolerance)
    return Findings(block_tuple, _components(outputs, blocks, batch.mask, tolerance), head_is_linear, pointwise)


def probe(model: Model) -> Batch:
    """Seven and three tokens to try a model on; embeddings of a random initialisation differ enough to tell errors."""
    top = min(model.vocab_size, model.module.get_input_embeddings().weight.shape[0]) - 1
    ids = [min(3 + 11 * index, top) for index in range(7)]
    return Sequences((tuple(ids), tuple(ids[4:]))).batch(torch.tensor([0, 1])).to(model.device)


def reads_past(model: Model) -> bool:
    """Whether a change at the last tokens has the same effect when the others are only keys and values of a past.

    So it is for causal attention whose cache is transformers' own; other models run from the first token on.
    """
    from interventions.forward import resume
    from interventions.past import Past
    from interventions.site import Site

    if model.remote is not None:
        return False
    batch, site = probe(model), Site((model.n_layers - 1) // 2)
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(*batch.mask.shape, model.d_model, generator=generator).to(model.device, model.dtype)
    changed = torch.cat([clean[:, :-2], clean[:, -2:].flip(1)], 1)
    with torch.no_grad():
        whole = resume(model, batch, site, changed)
        try:
            cache = DynamicCache()
            resume(model, batch, site, clean, past=cache)
            past = Past.of(len(batch.rows), [(batch.rows.cpu(), cache)]).cache(batch.rows.cpu(), changed.shape[1], 2)
            short = resume(model, batch, site, changed[:, -2:], past=past)
        except (OutOfOrderError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, StopIteration):
            return False
    return close(short, whole, 1e-4 if model.dtype == torch.float32 else 0.05)


def _passes(model: Model, batch: Batch) -> tuple[dict[str, list[Any]], Tensor, Tensor]:
    from interventions.forward import inputs

    outputs: dict[str, list[Any]] = {"block": [], "input": [], "attn": [], "mlp": []}
    architecture, blocks, last = model.architecture, model.blocks, model.n_layers - 1
    with torch.no_grad(), model.nnsight.trace(inputs(batch), use_cache=False):
        for layer in range(model.n_layers):
            if layer == last and architecture.attn is not None and architecture.mlp is not None:
                outputs["input"].append(blocks[layer].input)
                outputs["attn"].append(blocks[layer].get(architecture.attn).output)
                outputs["mlp"].append(blocks[layer].get(architecture.mlp).output)
            outputs["block"].append(blocks[layer].output)
        normed = model.norm.output.save()
        logits = model.nnsight.output.logits.save()
    return outputs, normed, logits


def _narrows(
    model: Model,
    batch: Batch,
    layer: int,
    x: Tensor,
    like: Any,
    normed: Tensor,
    tolerance: float,
    paths: tuple[str, ...],
) -> bool:
    try:
        resumed = _resume(model, batch, layer, x, like, paths)
    except (OutOfOrderError, RuntimeError, IndexError, ValueError):
        # A module that tells positions apart, or whose output is not added as it is.
        return False
    return close(resumed, normed[:, -1], tolerance)


def _resume(model: Model, batch: Batch, layer: int, x: Tensor, like: Any, narrow: tuple[str, ...] = ()) -> Tensor:
    from interventions.forward import inputs

    skipped = (x, *([None] * (len(like) - 1))) if isinstance(like, tuple) else x
    with torch.no_grad(), model.nnsight.trace(inputs(batch), use_cache=False) as tracer:
        for below in range(layer + 1):
            model.blocks[below].skip(skipped)
        if layer < model.n_layers - 1:
            for path in narrow:
                module = model.blocks[model.n_layers - 1].get(path)
                module.input = module.input[:, -1:].contiguous()
        normed = model.norm.output.save()
        tracer.stop()
    return normed[:, -1]


def _components(outputs: dict[str, list[Any]], blocks: list[Tensor], mask: Tensor, tolerance: float) -> tuple[str, ...]:
    parts = [*outputs["input"], *outputs["attn"], *outputs["mlp"]]
    if len(parts) == 3 and all(isinstance(part, Tensor) and part.shape == blocks[-1].shape for part in parts):
        added = (blocks[-1] - parts[0])[mask]
        if close((parts[1] + parts[2])[mask], added, tolerance):
            return ("attn", "mlp", "resid")
    return ("resid",)


def close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two tensors are the same but for `tolerance` times the largest number of the second."""
    a, b = a.float(), b.float()
    return bool(((a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-3)).item())
