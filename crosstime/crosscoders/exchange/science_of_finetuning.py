"""The format of science-of-finetuning's dictionary_learning (arXiv 2504.02922): `CrossCoder`, `BatchTopKCrossCoder`.

It is a state dict, alone in a file of `torch.save`, or as ``model.safetensors`` next to ``config.json``:
``encoder.weight`` C D F, ``encoder.bias`` F, ``decoder.weight`` C F D, ``decoder.bias`` C D, and
``code_normalization_id``. BatchTopK also has ``k`` and ``threshold``. Newer crosscoders normalise the activations
themselves, ``(x_c - mean_c) g_c``; reading them turns this into scales and biases.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, BatchTopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import FilePair, Format, jsonable, refuse_folded
from crosstime.crosscoders.exchange.known_keys import FINETUNING, FINETUNING_TRAINER
from crosstime.crosscoders.exchange.settings import Settings
from crosstime.crosscoders.exchange.source import Source, reader, refuse_unset, unwrapped
from crosstime.crosscoders.exchange.weights import Weights
from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.tensors import check_finite, check_tensor, read_header
from interventions import Site

FILES = FilePair("model.safetensors", "config.json")
NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight", "b_dec": "decoder.bias"}
NORMALIZATIONS = {1: "CROSSCODER", 2: "SAE", 3: "MIXED", 4: "NONE", 5: "DECOUPLED"}
"""What the codes are weighted by in the selection, by the number in the file; the first is our convention."""

CLASSES = ("CrossCoder", "BatchTopKCrossCoder")
_NORMALIZER = ("activation_mean", "activation_std", "activation_global_scale", "target_rms")
_OPTIONAL = ("code_normalization_id", "code_normalization", "k", "threshold", *_NORMALIZER)


def _locate(path: Path) -> tuple[Path, Path]:
    weights = path / FILES.weights if path.is_dir() else path
    return weights, weights.with_name(FILES.configuration)


def _holds(path: Path) -> bool:
    weights, _ = _locate(path)
    if not weights.is_file() or weights.suffix not in (".safetensors", ".pt", ".pth"):
        return False
    if weights.suffix != ".safetensors":
        # Only its content tells a file of `torch.save` apart, so all that no other format claims are taken for this one
        return True
    try:
        names, _ = read_header(weights)
    except RunError as error:
        raise CrosscoderError(f"cannot load a crosscoder: {error}") from error
    return set(NAMES.values()) <= set(unwrapped(names))


def _build(source: Source) -> CrossCoder:
    # Check the configuration and the weights
    _check_configuration(source)
    encoder, b_enc, decoder, b_dec = source.take(*NAMES.values(), optional=_OPTIONAL)
    if encoder.dim() != 3 or decoder.dim() != 3:
        raise CrosscoderError(
            f"{source.path} is of one layer: its weights have {encoder.dim()} axes, not checkpoint, D and F"
        )
    weights = Weights.checked(encoder, b_enc, decoder.transpose(0, 1), b_dec, names=NAMES)
    sizes = {"activation_dim": weights.d_model, "dict_size": weights.n_features, "num_layers": weights.n_checkpoints}
    for table in (source.config, source.config.table("trainer")):
        table.check_sizes(sizes | {"num_decoder_layers": weights.n_checkpoints})
    global_scale, weights = _absorb_normalizer(source, weights)

    # Read what `crosstime` wrote about the training
    crosstime_facts = Settings.parse(f"{source.path}, origin", source.metadata.get("origin", "{}"))
    site = crosstime_facts.string("site")
    origin = source.origin(
        weights,
        suite=crosstime_facts.string("suite"),
        revisions=crosstime_facts.strings("revisions"),
        site=None if site is None else Site.parse(site),
        training=source.training(crosstime_facts),
    )

    # Without a normaliser, the class takes activations as they are
    scales = source.scales(origin, global_scale)
    return weights.crosscoder(origin, scales, _activation(source, weights))


def _check_configuration(source: Source) -> None:
    """Refuse other classes, and settings that change what a crosscoder computes."""
    config = source.config
    trainer = config.table("trainer")
    source.check_keys(FINETUNING)
    trainer.check_keys(FINETUNING_TRAINER, source.overrides.ignored)
    dict_class = trainer.string("dict_class")
    if dict_class not in (None, *CLASSES):
        raise CrosscoderError(f"{trainer.location} says dict_class {dict_class!r}; {' and '.join(CLASSES)} can be read")
    for key in ("encoder_layers", "latent_processor"):
        if config.values.get(key) is not None:
            raise CrosscoderError(f"{config.location} sets {key}, which no crosscoder here has")


def _absorb_normalizer(source: Source, weights: Weights) -> tuple[Tensor | None, Weights]:
    """The scales ``g_c`` of a normaliser ``(x_c - mean_c) g_c``, and weights whose biases contain its means."""
    if not any(name in source.tensors for name in _NORMALIZER):
        return None, weights
    per_dimension = (weights.n_checkpoints, weights.d_model)
    mean = check_tensor("activation_mean", source.tensors.get("activation_mean"), per_dimension).float()
    deviation = check_tensor("activation_std", source.tensors.get("activation_std"), per_dimension).float()
    # Some forks have one scale for all checkpoints
    scale = source.tensors.get("activation_global_scale")
    one_scale = scale is not None and scale.dim() == 0
    global_scale = check_tensor("activation_global_scale", scale, () if one_scale else per_dimension[:1]).float()
    global_scale = global_scale.expand(weights.n_checkpoints)

    # A normaliser that was never estimated is NaN throughout, and is not used; one that is damaged is
    if mean.isnan().all() and deviation.isnan().all():
        return None, weights
    for name, tensor in zip(_NORMALIZER, (mean, deviation, global_scale), strict=False):
        check_finite(name, tensor)
    if not source.config.boolean("keep_relative_variance", default=True):
        raise CrosscoderError(
            f"{source.path} divides every dimension by its own deviation, which one scale per checkpoint cannot express"
        )
    if source.overrides.scales is not None:
        raise CrosscoderError(
            f"{source.path} keeps the scales of its activations, which cannot be replaced: leave them out"
        )

    # encoder: W g (x - mean) + b = W (g x) + (b - W g mean); decoder: (f W + b) / g + mean = (f W + b + g mean) / g
    shift = mean * global_scale.unsqueeze(-1)
    b_enc = weights.b_enc - torch.einsum("cd,cdf->f", shift, weights.W_enc)
    return global_scale, Weights(weights.W_enc, b_enc, weights.W_dec, weights.b_dec + shift)


def _activation(source: Source, weights: Weights) -> Activation | None:
    """The activation function of the file; None means ReLU."""
    if "threshold" not in source.tensors:
        if source.config.table("trainer").string("dict_class") == "BatchTopKCrossCoder":
            raise CrosscoderError(f"{source.path} is a BatchTopKCrossCoder, but has no tensor threshold")
        return None

    # Refuse kinds of selection that no activation function here has, and a threshold that was never estimated
    normalization = _normalization(source)
    if normalization not in ("CROSSCODER", "SAE", "NONE"):
        raise CrosscoderError(f"{source.path} weights its codes by {normalization}; CROSSCODER, SAE and NONE are known")
    threshold = source.number("threshold")
    if threshold is None:
        return None
    refuse_unset(source.path, threshold)
    if normalization == "CROSSCODER":
        return source.batch_topk(weights.n_features, threshold, k_setting="k")

    # One threshold on codes weighted by other norms is a threshold per feature on codes weighted by decoder norms
    sae_norms = weights.W_dec.flatten(1).norm(dim=1)
    selection_norms = sae_norms if normalization == "SAE" else torch.ones(weights.n_features)
    return weights.jumprelu(threshold / selection_norms.clamp_min(1e-30))


def _normalization(source: Source) -> str:
    """What the codes are weighted by: the number in the file, else the name in the configuration, else CROSSCODER."""
    number = source.number("code_normalization_id")
    if number is not None:
        return NORMALIZATIONS.get(int(number), f"{number:g}")
    tables = (source.config, source.config.table("trainer"))
    names = [name for table in tables if (name := table.string("code_normalization"))]
    return names[0].upper() if names else "CROSSCODER"


def _write(crosscoder: CrossCoder, path: Path) -> None:
    activation, scales, origin = crosscoder.activation, crosscoder.scales.cpu(), crosscoder.origin
    if activation.name not in ("relu", "batchtopk"):
        raise CrosscoderError(f"the format finetuning holds relu and batchtopk, not {activation.name}; take crosstime")
    refuse_folded(crosscoder, FORMAT.name)
    n_checkpoints, width = crosscoder.n_checkpoints, origin.d_model

    # Weights and sizes
    tensors: dict[str, Tensor] = {
        "encoder.weight": crosscoder.W_enc,
        "encoder.bias": crosscoder.b_enc,
        "decoder.weight": crosscoder.W_dec.transpose(0, 1),
        "decoder.bias": crosscoder.b_dec,
        "code_normalization_id": torch.tensor(1),
    }
    config: dict[str, Any] = {
        "activation_dim": width,
        "dict_size": crosscoder.n_features,
        "num_layers": n_checkpoints,
        "code_normalization": "CROSSCODER",
    }

    # What BatchTopK needs
    if isinstance(activation, BatchTopK):
        tensors |= {"k": torch.tensor(activation.k, dtype=torch.int32), "threshold": activation.threshold}
        config["k"] = activation.k

    # Scales are written as a normaliser whose deviations give the global scale s_c that the other side computes
    if not torch.equal(scales, torch.ones(n_checkpoints)):
        deviation = (1 / (scales * width**0.5)).unsqueeze(-1).expand(n_checkpoints, width)
        tensors |= {
            "activation_mean": torch.zeros(n_checkpoints, width),
            "activation_std": deviation,
            "activation_global_scale": scales,
            "target_rms": torch.tensor(1.0),
        }

    # What the format has no place for
    crosstime_facts = {"suite": origin.suite, "revisions": origin.revisions, "site": str(origin.site)}
    metadata = {"format": "pt", "origin": json.dumps(crosstime_facts | {"training": jsonable(origin.training)})}
    FILES.write(path, tensors, config, metadata)


FORMAT = Format(
    "finetuning",
    f"a state dict with encoder.weight and decoder.weight, or a folder with it as {FILES.weights}",
    is_folder=True,
    holds=_holds,
    read=reader(_locate, _build, needs_configuration=False),
    write=_write,
)
