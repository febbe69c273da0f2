"""The format of SAELens for a sparse autoencoder (C = 1): ``sae_weights.safetensors`` next to ``cfg.json``.

``W_enc`` D F, ``b_enc`` F, ``W_dec`` F D, ``b_dec`` D. JumpReLU has ``threshold`` F, on codes as they are, while that
of `JumpReLU` is on codes times decoder norm. With ``apply_b_dec_to_input`` the decoder bias is subtracted from the
input; reading such a file moves it into ``b_enc``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, BatchTopK, JumpReLU, TopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import FilePair, Format, jsonable
from crosstime.crosscoders.exchange.hooks import hook_of
from crosstime.crosscoders.exchange.source import Source, reader
from crosstime.crosscoders.exchange.weights import Weights
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.tensors import TensorError, check_tensor
from user_input.nearest import nearest

FILES = FilePair("sae_weights.safetensors", "cfg.json")
ARCHITECTURES = ("standard", "topk", "jumprelu")
NORMALIZATIONS = {"none": False, "expected_average_only_in": True}
"""Normalisations of the activations that can be read, and whether they multiply by a scale."""


def _build(source: Source) -> CrossCoder:
    # Check the weights, and give them a checkpoint axis
    W_enc, b_enc, W_dec, b_dec = source.take(
        "W_enc", "b_enc", "W_dec", "b_dec", optional=("threshold", "log_threshold")
    )
    check_tensor("W_dec", W_dec, (None, None))
    weights = Weights.checked(W_enc.unsqueeze(0), b_enc, W_dec.unsqueeze(1), b_dec.unsqueeze(0))
    scales = _scales(source)

    # encoder: W (x - b_dec) + b = W x + (b - W b_dec)
    if source.config.boolean("apply_b_dec_to_input", default=True):
        b_enc = weights.b_enc - weights.b_dec[0] @ weights.W_enc[0]
        weights = Weights(weights.W_enc, b_enc, weights.W_dec, weights.b_dec)

    activation, selects_by_norms = _activation(source, weights)
    crosscoder = weights.crosscoder(_origin(source, weights), scales, activation)
    if not selects_by_norms:
        # The selection weights codes by these norms, and here it must not weight them
        crosscoder.norms_before_folding = torch.ones(1, crosscoder.n_features)
    return crosscoder


def _scales(source: Source) -> Tensor | None:
    normalization = source.config.string("normalize_activations") or "none"
    reshape = source.config.string("reshape_activations") or "none"
    if normalization not in NORMALIZATIONS or reshape != "none":
        raise CrosscoderError(
            f"{source.path} normalises activations by {normalization} and reshapes them by {reshape}: "
            "that depends on each token, which no crosscoder here does"
        )
    if NORMALIZATIONS[normalization] and source.overrides.scales is None:
        raise CrosscoderError(
            f"{source.path} was trained on activations times s = sqrt(D) / E||x||, but does not keep s: give it as "
            "scales=[s]"
        )
    return source.scales(1)


def _origin(source: Source, weights: Weights) -> Origin:
    metadata = source.config.table("metadata")
    crosstime_facts = metadata.table("crosstime")
    return source.origin(
        weights,
        suite=crosstime_facts.string("suite") or metadata.string("model_name") or source.config.string("model_name"),
        revisions=crosstime_facts.strings("revisions"),
        site=source.hook_site("hook_name", metadata, source.config),
        training=source.training(crosstime_facts),
    )


def _activation(source: Source, weights: Weights) -> tuple[Activation | None, bool]:
    """The activation function, None for ReLU, and whether it selects by codes that are weighted by decoder norms."""
    # Older files call a top-k standard, with an activation function of that name
    config = source.config
    architecture, k = config.string("architecture") or "standard", config.integer("k")
    if architecture == "standard" and "topk" in (config.string("activation_fn_str"), config.string("activation_fn")):
        architecture, k = "topk", config.table("activation_fn_kwargs").integer("k") or k

    if architecture == "standard":
        return None, True
    if architecture == "topk":
        weighted = config.boolean("rescale_acts_by_decoder_norm", default=False)
        return TopK(weights.n_features, k=100 if k is None else k), weighted
    if architecture == "jumprelu":
        return _jumprelu(source, weights), True
    raise CrosscoderError(f"{source.path} is of architecture {architecture!r}: {nearest(architecture, ARCHITECTURES)}")


def _jumprelu(source: Source, weights: Weights) -> JumpReLU:
    """A JumpReLU whose thresholds, on codes as they are, are multiplied by the decoder norms."""
    if "threshold" in source.tensors:
        threshold = source.tensors["threshold"].float().relu()
    elif "log_threshold" in source.tensors:
        threshold = source.tensors["log_threshold"].float().exp()
    else:
        raise TensorError("it has no tensor log_threshold, and no threshold either")
    check_tensor("threshold", threshold, (weights.n_features,))
    if threshold.isnan().any():
        raise TensorError("threshold has values that are not a number")
    activation = JumpReLU(weights.n_features)
    with torch.no_grad():
        activation.log_threshold.copy_((threshold * weights.W_dec.norm(dim=-1).sum(1)).log())
    return activation


def _write(crosscoder: CrossCoder, path: Path) -> None:
    if crosscoder.n_checkpoints != 1:
        raise CrosscoderError(
            f"the format saelens holds sparse autoencoders, of one checkpoint; this crosscoder has "
            f"{crosscoder.n_checkpoints}; take ctt, finetuning or crosstime"
        )

    # Weights with the scale multiplied in, without the checkpoint axis
    folded, norms = crosscoder.fold(), crosscoder.selection_norms().detach()
    W_dec = folded.W_dec[:, 0].detach()
    tensors = {"W_enc": folded.W_enc[0], "b_enc": folded.b_enc, "W_dec": W_dec, "b_dec": folded.b_dec[0]}
    config = _configuration(crosscoder)

    # The activation function, with thresholds on codes as they are
    activation = crosscoder.activation
    if isinstance(activation, TopK):
        config |= {"architecture": "topk", "k": activation.k}
        config["rescale_acts_by_decoder_norm"] = _selects_by_norms(norms, W_dec.norm(dim=-1))
    elif isinstance(activation, JumpReLU | BatchTopK):
        threshold = activation.threshold if isinstance(activation, BatchTopK) else activation.log_threshold.exp()
        config["architecture"] = "jumprelu"
        # A feature of norm zero never fires with us, which no finite threshold can express
        tensors["threshold"] = torch.where(norms > 0, threshold.detach() / norms, torch.finfo(torch.float32).max)

    FILES.write(path, {name: tensor.float() for name, tensor in tensors.items()}, config)


def _configuration(crosscoder: CrossCoder) -> dict[str, Any]:
    """The configuration of a standard autoencoder, and what the format has no place for as metadata."""
    origin = crosscoder.origin
    return {
        "architecture": "standard",
        "d_in": origin.d_model,
        "d_sae": crosscoder.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "model_name": origin.suite,
            "hook_name": hook_of(origin.site),
            "crosstime": {
                "suite": origin.suite,
                "revisions": list(origin.revisions),
                "training": jsonable(origin.training),
            },
        },
    }


def _selects_by_norms(selection_norms: Tensor, decoder_norms: Tensor) -> bool:
    """Whether a top-k that weights codes by `selection_norms` uses decoder norms, rather than equal weights."""
    for selects_by_norms, weights in ((False, torch.ones_like(selection_norms)), (True, decoder_norms)):
        ratio = selection_norms / weights
        if torch.allclose(ratio, ratio.mean().expand_as(ratio), rtol=1e-5):
            return selects_by_norms
    raise CrosscoderError("the format saelens cannot select by norms that are not the decoder's; take crosstime")


FORMAT = Format(
    "saelens",
    f"a folder with {FILES.weights} and {FILES.configuration}",
    is_folder=True,
    holds=FILES.holds,
    read=reader(FILES.locate, _build),
    write=_write,
)
