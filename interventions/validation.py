"""Test passes on a newly opened model: are its parts where its architecture says, and do interventions hold?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor
from transformers.cache_utils import DynamicCache

from interventions import architectures
from interventions.bare_model import BareModel, Findings
from interventions.budget import is_out_of_memory
from interventions.errors import ArchitectureError, CheckpointLoadError
from interventions.forward import inputs, resume, run
from interventions.kv_cache import KVCache
from interventions.prompts import Batch, Sequences
from interventions.site import Site
from user_input.reason import reason

_LARGE_LOGIT, _LARGE_HIDDEN = 2.0**12, 2.0**14
"""Magnitudes to which the final norm's output is enlarged, far beyond soft caps and within float16."""
_LOGIT_CAPS = ("final_logit_softcapping", "final_logits_softcap", "logits_soft_cap", "output_logits_soft_cap")
_LOGIT_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier")
"""Keys of configurations with which transformers caps or scales logits."""


class _Sublayers(NamedTuple):
    """What goes into a block, and what its two sublayers add to it."""

    attention: bool
    """Whether the first sublayer is attention, rather than what takes its place."""
    entering: object
    first: object
    mlp: object


@dataclass(frozen=True, eq=False)
class _CleanPass:
    """One unchanged pass of the test sequences.

    Attributes:
        batch: the test sequences.
        blocks: the hidden states that each block returns.
        block_tuple: length of the tuple in which it returns them, 0 for a plain tensor.
        sublayers: for each block, its input and what attention (or the module in its place) and MLP return, where the
            block has both.
        normed: the final norm's output.
        logits: the model's logits.
    """

    batch: Batch
    blocks: list[Tensor]
    block_tuple: int
    sublayers: list[_Sublayers]
    normed: Tensor
    logits: Tensor


def validate(model: BareModel) -> Findings:
    """Run a model on two short left-padded sequences and compare results that must agree.

    1. The number of blocks is that of the configuration.
    2. Blocks and final norm return hidden states of the model's width, without NaN or infinity.
    3. Skipping all blocks up to the middle one, with its own output in their place, leaves the result unchanged. This
       is tried with as many modules of the last block as possible at the last position only; those are `pointwise`.
    4. If the unembedding of the final norm's output is the logits, also where this output is so large that a soft cap
       would cut the logits off, `head_is_linear` is True.
    5. If the outputs of attention and MLP add up to what a block adds to the residual stream, they are offered as
       components at its layer.
    6. If the shorter sequence alone gives other hidden states than beside padding, batches hold equal lengths only.

    Raises:
        ArchitectureError: one of the first three does not hold.
        CheckpointLoadError: the model computes NaN or infinity.
    """
    # Compare the number of blocks
    expected = getattr(model.config.get_text_config(), "num_hidden_layers", model.n_layers)
    if model.n_layers != expected:
        raise ArchitectureError(
            f"{model.name}: {model.architecture.blocks} has {model.n_layers} blocks, but the configuration says "
            f"{expected}; name the list of decoder blocks with interventions.register."
        )

    # Run the model once
    clean = _run_clean(model, validation_batch(model))
    if not all(bool(hidden[clean.batch.mask].isfinite().all()) for hidden in (*clean.blocks, clean.logits)):
        raise CheckpointLoadError(f"{model.name} computes NaN or infinity on ordinary tokens: {_why_not_finite(model)}")

    # Resume it from the middle block; a pass ends at the final norm while `head_is_linear` is True
    findings = Findings(
        clean.block_tuple,
        components=_components(clean, tolerance(model.dtype)),
        head_is_linear=True,
        equal_lengths=_padding_changes(model, clean),
    )
    findings = replace(findings, pointwise=_pointwise(model, findings, clean))

    return replace(findings, head_is_linear=_head_is_linear(model, clean))


def validation_batch(model: BareModel) -> Batch:
    """Return two test sequences, of seven and three tokens.

    The tokens differ, because the embeddings of different tokens differ enough, even in a random initialization, to
    reveal a wrong module.
    """
    last = min(model.vocab_size, model.n_embeddings) - 1
    ids = [min(3 + 11 * index, last) for index in range(7)]
    return Sequences((tuple(ids), tuple(ids[4:]))).batch(torch.tensor([0, 1])).to(model.device)


def middle_site(model: BareModel) -> Site:
    """Return the residual site that test passes change."""
    return Site((model.n_layers - 1) // 2)


def tolerance(dtype: torch.dtype) -> float:
    """Return the relative difference up to which two test results of a dtype are the same."""
    return 1e-4 if dtype == torch.float32 else 0.05


def close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Return whether two tensors differ by at most `tolerance` times the largest absolute value of the second."""
    a, b = a.float(), b.float()
    return bool(((a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-3)).item())


def continues_from_cache(model: BareModel, site: Site) -> bool:
    """Return whether a change at a site's last tokens has the same effect when earlier tokens are only a KV cache.

    This holds for causal attention that uses transformers' own cache. Other models must run from the first token.
    """
    batch = validation_batch(model)
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(*batch.mask.shape, model.d_model, generator=generator).to(model.device, model.dtype)
    changed = torch.cat([clean[:, :-2], clean[:, -2:].flip(1)], 1)
    rows = batch.rows.cpu()

    with torch.no_grad():
        from_first_token = resume(model, batch, site, changed)
        try:
            filled = DynamicCache()
            resume(model, batch, site, clean, cache=filled)
            cache = KVCache.of(len(rows), [(rows, filled)]).of_batch(rows, changed.shape[1], 2)
            from_cache = resume(model, batch, site, changed[:, -2:], cache=cache)
        except (OutOfOrderError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, StopIteration):
            return False
    return close(from_cache, from_first_token, tolerance(model.dtype))


def continues_from_tokens(model: BareModel) -> bool:
    """Return whether the last tokens give the same result when those before them are only a KV cache."""
    batch = validation_batch(model)
    first, rows = batch.without_last(2), batch.rows.cpu()
    with torch.no_grad():
        from_first_token = run(model, batch, all_positions=True)[:, -2:]
        try:
            filled = DynamicCache()
            run(model, first, all_positions=True, cache=filled)
            cache = KVCache.of(len(rows), [(rows, filled)]).of_batch(rows, first.mask.shape[1], 0)
            from_cache = run(model, batch, all_positions=True, cache=cache, n_slots=2)
        except (OutOfOrderError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, StopIteration):
            return False
    return close(from_cache, from_first_token, tolerance(model.dtype))


def _run_clean(model: BareModel, batch: Batch) -> _CleanPass:
    """Run the test sequences and check the shapes of hidden states.

    Raises:
        ArchitectureError: a module does not run in the expected order, or returns something else.
    """
    try:
        try:
            outputs, sublayers, normed, logits = _trace_modules(model, batch)
        except OutOfOrderError:
            # Names that a search found may mean something else; those of the table must not
            if model.config.model_type in architectures.TABLE:
                raise
            outputs, sublayers, normed, logits = _trace_modules(model, batch, with_sublayers=False)
    except OutOfOrderError as error:
        raise ArchitectureError(
            f"{model.name}: the parts of its architecture do not run in the order attention, MLP, block, final norm "
            f"({reason(error)}); name them with interventions.register."
        ) from error
    except (RuntimeError, IndexError, ValueError, TypeError, KeyError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointLoadError(
            f"{model.name} cannot run two short sequences: {type(error).__name__}: {reason(error)}"
        ) from error

    # Check what the blocks return
    expected = (*batch.mask.shape, model.d_model)
    blocks: list[Tensor] = []
    for layer, output in enumerate(outputs):
        hidden = output[0] if isinstance(output, tuple) else output
        if not isinstance(hidden, Tensor) or hidden.shape != expected:
            shape = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
            raise ArchitectureError(
                f"{model.name}: block {layer} returns {shape}, expected hidden states of shape {expected}; name the "
                "decoder blocks with interventions.register."
            )
        blocks.append(hidden)

    # Check what the final norm returns
    if not isinstance(normed, Tensor) or normed.shape != expected:
        raise ArchitectureError(
            f"{model.name}: {model.architecture.norm!r} does not give hidden states of shape {expected}, so it is not "
            "the final norm; name it with interventions.register."
        )

    lengths = {len(output) if isinstance(output, tuple) else 0 for output in outputs}
    if len(lengths) > 1:
        raise ArchitectureError(
            f"{model.name}: some of its blocks return tuples and others do not, so that they cannot be skipped alike."
        )
    block_tuple = lengths.pop()
    return _CleanPass(batch, blocks, block_tuple, sublayers, normed, logits)


def _trace_modules(
    model: BareModel, batch: Batch, *, with_sublayers: bool = True
) -> tuple[list[object], list[_Sublayers], object, Tensor]:
    """Return what each block, its sublayers, the final norm and the model return."""
    architecture, blocks = model.architecture, model.blocks
    sublayer_paths = [_sublayer_paths(model, layer) for layer in range(model.n_layers)]
    outputs: list[object] = []
    sublayers: list[_Sublayers] = []
    with torch.no_grad(), model.nnsight.trace(inputs(batch), use_cache=False):
        for layer in range(model.n_layers):
            block = blocks[layer]
            mixer, mlp = sublayer_paths[layer]
            entering = first_output = mlp_output = None
            if with_sublayers and mixer is not None and mlp is not None:
                entering = block.input
                first_output = block.get(mixer).output
                mlp_output = block.get(mlp).output
            attention = mixer is not None and mixer == architecture.attn
            sublayers.append(_Sublayers(attention, entering, first_output, mlp_output))
            outputs.append(block.output)
        normed = model.norm.output.save()
        logits = model.nnsight.output.logits.save()
    return outputs, sublayers, normed, logits


def _sublayer_paths(model: BareModel, layer: int) -> tuple[str | None, str | None]:
    """Return the paths of attention, or of what takes its place, and of the MLP within a block."""
    architecture, block = model.architecture, model.blocks[layer]._module
    # In such blocks of OLMo Hybrid, a norm before the MLP has the name of the one after attention in the others
    if architectures.has(block, architecture.mixer):
        return architecture.mixer, architecture.path(block, "mlp")
    return architecture.path(block, "attn"), architecture.path(block, "mlp")


def _head_is_linear(model: BareModel, clean: _CleanPass) -> bool:
    """Return whether the logits are the unembedding of the final norm's output, bit for bit.

    A soft cap changes small logits by less than half precision resolves, so the comparison is made once more with an
    output of the norm that gives large ones. The same operation on the same tensor gives the same bits in every dtype;
    a model that fails this runs to its own logits, which is slower but right.
    """
    # Between them there may be a projection to another width
    if _caps_or_scales_logits(model) or architectures.weight(model.unembedding).shape[1] != model.d_model:
        return False
    expected = model.unembedding(clean.normed)
    if not torch.equal(expected.float(), clean.logits.float()):
        return False

    # Enlarge the norm's output by a power of two that keeps all numbers below the largest of float16
    largest = float(expected.abs().max().clamp(min=1e-6)), float(clean.normed.abs().max().clamp(min=1e-6))
    room = min(_LARGE_LOGIT / largest[0], _LARGE_HIDDEN / largest[1])
    factor = 2.0 ** max(0, math.floor(math.log2(room)))
    with torch.no_grad(), model.nnsight.trace(inputs(clean.batch), use_cache=False):
        model.norm.output = model.norm.output * factor
        logits = model.nnsight.output.logits.save()
    return bool(torch.equal(model.unembedding(clean.normed * factor).float(), logits.float()))


def _caps_or_scales_logits(model: BareModel) -> bool:
    """Return whether the configuration says that the logits are capped or scaled after the unembedding."""
    config = model.config.get_text_config()
    caps = (getattr(config, name, None) for name in _LOGIT_CAPS)
    scales = (getattr(config, name, None) for name in _LOGIT_SCALES)
    return any(cap not in (None, 0, 0.0, False) for cap in caps) or any(scale not in (None, 1, 1.0) for scale in scales)


def _why_not_finite(model: BareModel) -> str:
    """Return the reason why a model computes NaN or infinity, as far as its weights tell."""
    weights = [weight for weight in model.module.parameters() if weight.is_floating_point()]
    half = model.dtype == torch.float16
    if any(bool(weight.isnan().any()) for weight in weights) or (
        not half and not all(bool(weight.isfinite().all()) for weight in weights)
    ):
        return "its weights are damaged."
    if half:
        return (
            "numbers beyond 65,504, the largest of float16, become infinite; open it in bfloat16 "
            '(dtype="bfloat16", --dtype bfloat16), which has the range of float32, or in float32.'
        )
    return f"its weights are finite, but its activations exceed the range of {str(model.dtype).removeprefix('torch.')}."


def _pointwise(model: BareModel, findings: Findings, clean: _CleanPass) -> tuple[str, ...]:
    """Return the modules of the last block that may run at the last position only.

    Raises:
        ArchitectureError: skipping the blocks up to the middle one changes the result with any choice of modules.
    """
    paths = model.architecture.pointwise
    for first in range(len(paths)):
        try:
            if _resumes(model, replace(findings, pointwise=paths[first:]), clean):
                return paths[first:]
        except (OutOfOrderError, RuntimeError, IndexError, ValueError):
            # The module distinguishes positions, or its output is not added to the residual stream unchanged
            continue
    if not _resumes(model, findings, clean):
        layer, norm = middle_site(model).layer, model.architecture.norm
        raise ArchitectureError(
            f"{model.name}: giving block {layer} its own output changes the result, so its blocks or its final norm "
            f"{norm!r} are not what they seem; name them with interventions.register."
        )
    return ()


def _resumes(model: BareModel, findings: Findings, clean: _CleanPass) -> bool:
    """Return whether a pass from the middle block upward gives the result of the clean pass."""
    site = middle_site(model)
    with torch.no_grad():
        end = resume(model.with_findings(findings), clean.batch, site, clean.blocks[site.layer])
    return close(end, clean.normed[:, -1], tolerance(model.dtype))


def _components(clean: _CleanPass, tolerance: float) -> tuple[tuple[str, ...], ...]:
    """Return the components that a site may name, for each layer."""
    mask = clean.batch.mask
    components: list[tuple[str, ...]] = []
    for sublayers, leaving in zip(clean.sublayers, clean.blocks, strict=True):
        parts = [sublayers.entering, sublayers.first, sublayers.mlp]
        tensors = [x for x in parts if isinstance(x, Tensor) and x.shape == leaving.shape]
        offered: tuple[str, ...] = ("resid",)
        if len(tensors) == 3:
            entering, first, mlp = tensors
            if close((first + mlp)[mask], (leaving - entering)[mask], tolerance):
                offered = ("attn", "mlp", "resid") if sublayers.attention else ("mlp", "resid")
        components.append(offered)
    return tuple(components) if len(set(components)) > 1 else (components[0],)


def _padding_changes(model: BareModel, clean: _CleanPass) -> bool:
    """Return whether the shorter test sequence alone gives other hidden states than beside padding."""
    shorter = int(clean.batch.mask.sum(1).argmin())
    mask = clean.batch.mask[shorter]
    alone = Sequences((tuple(clean.batch.input_ids[shorter][mask].tolist()),)).batch(torch.tensor([0]))
    outputs, _, _, _ = _trace_modules(model, alone.to(model.device), with_sublayers=False)
    last = outputs[-1][0] if isinstance(outputs[-1], tuple) else outputs[-1]
    if not isinstance(last, Tensor):
        return False
    return not close(last[0], clean.blocks[-1][shorter][mask], tolerance(model.dtype))
