"""The format of SAELens for a sparse autoencoder (C = 1): ``sae_weights.safetensors`` next to ``cfg.json``.

``W_enc`` D F, ``b_enc`` F, ``W_dec`` F D, ``b_dec`` D. JumpReLU has ``threshold`` F, on codes as they are, while that
of `JumpReLU` is on codes times decoder norm. With ``apply_b_dec_to_input`` the decoder bias is subtracted from the
input; reading such a file moves it into ``b_enc``. Files of earlier releases have ``hook_point`` for ``hook_name``, and
a ``scaling_factor`` F of the codes on their way to the decoder.
"""

from __future__ import annotations

import reprlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, BatchTopK, JumpReLU, TopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import FilePair, Format, jsonable
from crosstime.crosscoders.exchange.hooks import hook_of
from crosstime.crosscoders.exchange.saelens_settings import check_settings, hook_points, revision_of
from crosstime.crosscoders.exchange.source import Source, reader
from crosstime.crosscoders.exchange.weights import Weights
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.tensors import TensorError, check_finite, check_tensor

FILES = FilePair("sae_weights.safetensors", "cfg.json")
ARCHITECTURES = ("standard", "topk", "jumprelu")
SCALING_FACTORS = ("scaling_factor", "finetuning_scaling_factor")
NORMALIZATIONS = {"none": False, "expected_average_only_in": True}
"""Normalisations of the activations that can be read, and whether they multiply by a scale."""


def _build(source: Source) -> CrossCoder:
    # Check the configuration and the weights, and give them a checkpoint axis
    check_settings(source)
    W_enc, b_enc, W_dec, b_dec = source.take(
        "W_enc", "b_enc", "W_dec", "b_dec", optional=("threshold", "log_threshold", *SCALING_FACTORS)
    )
    check_tensor("W_dec", W_dec, (None, None))
    weights = Weights.checked(W_enc.unsqueeze(0), b_enc, W_dec.unsqueeze(1), b_dec.unsqueeze(0))
    source.config.check_sizes({"d_in": weights.d_model, "d_sae": weights.n_features})
    normalized = _is_normalized(source)

    # encoder: W (x - b_dec) + b = W x + (b - W b_dec); decoder: (f * factor) W = f (factor W)
    b_enc, W_dec = weights.b_enc, weights.W_dec
    if source.config.boolean("apply_b_dec_to_input", default=True):
        b_enc = b_enc - weights.b_dec[0] @ weights.W_enc[0]
    if (factor := _scaling_factor(source, weights)) is not None:
        W_dec = W_dec * factor.reshape(-1, 1, 1)
    weights = Weights(weights.W_enc, b_enc, W_dec, weights.b_dec)

    activation, selects_by_norms = _activation(source, weights)
    origin = _origin(source, weights)
    setting = f"normalize_activations in {source.config.location}"
    scales = source.scales_of_training(origin, None, setting) if normalized else source.scales(origin)
    crosscoder = weights.crosscoder(origin, scales, activation)
    if not selects_by_norms:
        # The selection weights codes by these norms, and here it must not weight them
        crosscoder.norms_before_folding = torch.ones(1, crosscoder.n_features)
    return crosscoder


def _is_normalized(source: Source) -> bool:
    """Whether activations are multiplied by a scale that the file does not have.

    Releases before 3.0 say false or true, as `handle_pre_6_0_config` of SAELens 6 understands it.
    """
    config = source.config
    normalization: str | None
    if isinstance(config.values.get("normalize_activations"), bool):
        normalization = "expected_average_only_in" if config.values["normalize_activations"] else "none"
    else:
        normalization = config.string("normalize_activations") or "none"
    if normalization not in NORMALIZATIONS:
        raise CrosscoderError(
            f"{source.path} normalises activations by {normalization}, which no crosscoder here does: one scale per "
            "checkpoint cannot express it"
        )
    reshape = config.string("reshape_activations") or "none"
    if reshape != "none":
        raise CrosscoderError(f"{source.path} reshapes activations, by {reshape}: the activations of heads are no site")
    return NORMALIZATIONS[normalization]


def _scaling_factor(source: Source, weights: Weights) -> Tensor | None:
    """The factors of the codes on their way to the decoder; None if there are none, or all are one.

    SAELens wrote ones for some time, and drops them when it reads a file; others need ``finetuning_scaling_factor``.
    """
    names = [name for name in SCALING_FACTORS if name in source.tensors]
    if not names:
        return None
    name = names[0]
    factor = check_finite(name, check_tensor(name, source.tensors[name], (weights.n_features,)).float())
    if torch.allclose(factor, torch.ones_like(factor)):
        return None
    if not source.config.boolean("finetuning_scaling_factor", default=False):
        raise CrosscoderError(
            f"{source.path} has a tensor {name} that is not of ones, but {source.config.location} does not say "
            "finetuning_scaling_factor, so that SAELens refuses it too"
        )
    return factor


def _origin(source: Source, weights: Weights) -> Origin:
    metadata = source.config.table("metadata")
    crosstime_facts = metadata.table("crosstime")
    return source.origin(
        weights,
        suite=crosstime_facts.string("suite") or metadata.string("model_name") or source.config.string("model_name"),
        revisions=crosstime_facts.strings("revisions") or revision_of(source),
        site=source.hook_site(*hook_points(source)),
        training=source.training(crosstime_facts),
    )


def _activation(source: Source, weights: Weights) -> tuple[Activation | None, bool]:
    """The activation function, None for ReLU, and whether it selects by codes that are weighted by decoder norms."""
    # Older files call a top-k standard, with an activation function of that name
    config = source.config
    architecture, k = config.string("architecture") or "standard", config.integer("k")
    function = config.string("activation_fn_str") or config.string("activation_fn") or "relu"
    kwargs = config.table("activation_fn_kwargs")
    kwargs.check_keys(("k",), source.overrides.ignored)
    if architecture == "standard" and function == "topk":
        architecture, k = "topk", kwargs.integer("k") or k
    elif function not in ("relu", "topk" if architecture == "topk" else "relu"):
        raise CrosscoderError(
            f"{config.location} says the activation function {function!r}; relu and topk can be read from this format"
        )

    if architecture == "standard":
        return None, True
    if architecture == "topk":
        weighted = config.boolean("rescale_acts_by_decoder_norm", default=False)
        return TopK(weights.n_features, k=100 if k is None else k), weighted
    if architecture == "jumprelu":
        return _jumprelu(source, weights), True
    raise CrosscoderError(
        f"{source.path} is of architecture {reprlib.repr(architecture)}, another function than those that can be read "
        f"from this format, {', '.join(ARCHITECTURES)}"
    )


def _jumprelu(source: Source, weights: Weights) -> JumpReLU:
    """A JumpReLU whose thresholds, on codes as they are, are multiplied by the decoder norms."""
    if "threshold" in source.tensors:
        threshold = source.tensors["threshold"].float()
    elif "log_threshold" in source.tensors:
        threshold = source.tensors["log_threshold"].float().exp()
    else:
        raise TensorError("it has no tensor log_threshold, and no threshold either")
    check_tensor("threshold", threshold, (weights.n_features,))
    if threshold.isnan().any():
        raise TensorError("threshold has values that are not a number")
    if below := int((threshold < 0).sum()):
        # Codes are not negative, so that SAELens' own function has no use for such a threshold either
        warnings.warn(
            f"{source.path} has thresholds below zero, of {below:,} of {weights.n_features:,} features: they are "
            "active wherever their code is positive",
            RuntimeWarning,
            stacklevel=2,
        )
        threshold = threshold.relu()
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
    folded, norms = crosscoder.fold(), crosscoder.selection_norms().detach().reshape(-1)
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
