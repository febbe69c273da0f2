"""The format of SAELens for a sparse autoencoder (C = 1): ``sae_weights.safetensors`` next to ``cfg.json``.

``W_enc`` D F, ``b_enc`` F, ``W_dec`` F D, ``b_dec`` D. JumpReLU has ``threshold`` F, on codes as they are, while that
of `JumpReLU` is on codes times decoder norm. With ``apply_b_dec_to_input`` the decoder bias is subtracted from the
input; reading such a file moves it into ``b_enc``. Codes of a top-k with ``rescale_acts_by_decoder_norm`` contain the
decoder norm, which moves into the encoder. Files of earlier releases have ``hook_point`` for ``hook_name``, and a
``scaling_factor`` F of the codes on their way to the decoder.

A gated autoencoder (Rajamanoharan et al. 2024, arXiv 2404.16014) is a JumpReLU in other words: with ``z = x W_enc``,
its code ``[z + b_gate > 0] relu(e^r_mag z + b_mag)`` is that of the encoder ``e^r_mag W_enc`` with the bias ``b_mag``
and the threshold ``b_mag - e^r_mag b_gate``.
"""

from __future__ import annotations

import reprlib
import warnings
from dataclasses import replace
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
ARCHITECTURES = ("standard", "topk", "jumprelu", "gated")
LAYOUT = "6.0.0"
"""The release of SAELens whose configuration is written."""
SCALING_FACTORS = ("scaling_factor", "finetuning_scaling_factor")
NORMALIZATIONS = {"none": False, "expected_average_only_in": True}
"""Normalisations of the activations that can be read, and whether they multiply by a scale."""


def _build(source: Source) -> CrossCoder:
    # Check the configuration and the weights, and give them a checkpoint axis
    check_settings(source)
    architecture, k = _architecture(source)
    gates: Tensor | None = None
    if architecture == "gated":
        weights, gates = _gated(source)
    else:
        weights = _ungated(source)
    source.config.check_sizes({"d_in": weights.d_model, "d_sae": weights.n_features})
    normalized = _is_normalized(source)

    # Move the bias that is subtracted from the input, and factors of the codes, into the weights. Of a gated
    # autoencoder, b_mag and e^r_mag b_gate move by the same amount, so that the threshold stays
    if source.config.boolean("apply_b_dec_to_input", default=True):
        weights = weights.for_centred_input()
    if (factor := _scaling_factor(source, weights)) is not None:
        weights = replace(weights, W_dec=weights.W_dec * factor.reshape(-1, 1, 1))

    # The activation function; codes of a top-k that selects by decoder norms contain them
    activation: Activation | None = None
    if architecture == "topk":
        if source.config.boolean("rescale_acts_by_decoder_norm", default=False):
            weights = weights.with_codes_times(_positive_norms(source, weights))
        activation = TopK(weights.n_features, k=100 if k is None else k)
    elif architecture == "jumprelu":
        activation = _jumprelu(source, weights)
    elif gates is not None:
        activation = weights.jumprelu(gates.relu())
    origin = _origin(source, weights)
    setting = f"normalize_activations in {source.config.location}"
    scales = source.scales_of_training(origin, None, setting) if normalized else source.scales(origin)
    crosscoder = weights.crosscoder(origin, scales, activation)
    if architecture == "topk":
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


def _architecture(source: Source) -> tuple[str, int | None]:
    """The architecture, and the k of a top-k if the configuration names it.

    Raises:
        CrosscoderError: it is another one than those that can be read, or has another activation function.
    """
    # Older files call a top-k standard, with an activation function of that name
    config = source.config
    architecture, k = config.string("architecture") or "standard", config.integer("k")
    if architecture not in ARCHITECTURES:
        raise CrosscoderError(
            f"{source.path} is of architecture {reprlib.repr(architecture)}, another function than those that can be "
            f"read from this format, {', '.join(ARCHITECTURES)}"
        )
    function = config.string("activation_fn_str") or config.string("activation_fn") or "relu"
    kwargs = config.table("activation_fn_kwargs")
    kwargs.check_keys(("k",), source.overrides.ignored)
    if architecture == "standard" and function == "topk":
        return "topk", kwargs.integer("k") or k
    if function not in ("relu", "topk" if architecture == "topk" else "relu"):
        raise CrosscoderError(
            f"{config.location} says the activation function {function!r}; relu and topk can be read from this format"
        )
    return architecture, k


def _ungated(source: Source) -> Weights:
    """The weights of all architectures with one encoder bias."""
    optional = ("threshold", "log_threshold", *SCALING_FACTORS)
    return Weights.of_autoencoder(*source.take("W_enc", "b_enc", "W_dec", "b_dec", optional=optional))


def _gated(source: Source) -> tuple[Weights, Tensor]:
    """The weights of the magnitudes of a gated autoencoder, and the thresholds that are its gates."""
    W_enc, W_dec, b_dec, *others = source.take(
        "W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag", optional=SCALING_FACTORS
    )
    check_tensor("W_dec", W_dec, (None, None))
    check_tensor("W_enc", W_enc, (W_dec.shape[1], len(W_dec)))
    b_gate, b_mag, r_mag = (
        check_finite(name, check_tensor(name, tensor, (len(W_dec),)).float())
        for name, tensor in zip(("b_gate", "b_mag", "r_mag"), others, strict=True)
    )
    magnitude = r_mag.exp()
    return Weights.of_autoencoder(W_enc.float() * magnitude, b_mag, W_dec, b_dec), b_mag - magnitude * b_gate


def _positive_norms(source: Source, weights: Weights) -> Tensor:
    norms = weights.norms()
    if zero := int((norms == 0).sum()):
        raise CrosscoderError(
            f"{source.path} divides codes by decoder norms (rescale_acts_by_decoder_norm), of which {zero:,} are zero"
        )
    return norms


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
    return weights.jumprelu(threshold)


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
        by_norms = _selects_by_norms(norms, W_dec.norm(dim=-1))
        config["rescale_acts_by_decoder_norm"] = by_norms
        if by_norms and not torch.allclose(norms, torch.ones_like(norms), rtol=1e-5):
            warnings.warn(
                f"{path}: this top-k selects by codes times decoder norm, and codes of SAELens then contain the norm: "
                "they are ours times the decoder norm; reconstructions are the same",
                RuntimeWarning,
                stacklevel=2,
            )
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
            # Without it, SAELens takes the file for an older one, and drops this table
            "sae_lens_version": LAYOUT,
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
