"""Crosscoders of science-of-finetuning's dictionary_learning (arXiv 2504.02922): `CrossCoder`, `BatchTopKCrossCoder`.

A state dict, alone in a file of `torch.save` or as ``model.safetensors`` beside ``config.json``: ``encoder.weight``
C D F, ``encoder.bias`` F, ``decoder.weight`` C F D, ``decoder.bias`` C D, ``code_normalization_id``; BatchTopK has
``k`` and ``threshold``. Newer ones normalise activations themselves, ``(x_c - mean_c) g_c``; this is taken into scales
and biases.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, BatchTopK, JumpReLU
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import (
    Format,
    Known,
    Weights,
    named_tensors,
    number_in,
    origin_of,
    plain,
    refuse_folded,
    scales_from,
    take,
    unpickled,
)
from crosstime.crosscoders.exchange.settings import Settings
from crosstime.errors import CrosscoderError
from crosstime.machine.storage import atomic_path, write_json
from crosstime.machine.tensors import write_tensors
from interventions import Site

WEIGHTS, CONFIGURATION = "model.safetensors", "config.json"
NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight", "b_dec": "decoder.bias"}
NORMALIZATIONS = {1: "CROSSCODER", 2: "SAE", 3: "MIXED", 4: "NONE", 5: "DECOUPLED"}
"""What codes are weighted by before selection, by the number that the file carries; the first is ours."""
_NORMALIZER = ("activation_mean", "activation_std", "activation_global_scale", "target_rms")
_OPTIONAL = ("code_normalization_id", "code_normalization", "k", "threshold", *_NORMALIZER)


def _file(path: Path) -> Path:
    return path / WEIGHTS if path.is_dir() else path


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    file = _file(path)
    return named_tensors(file) if file.suffix == ".safetensors" else (unpickled(file), {})


def _holds(path: Path) -> bool:
    file = _file(path)
    if not file.is_file() or file.suffix not in (".safetensors", ".pt", ".pth"):
        return False
    # A file of `torch.save` has no other sign outside than its name: whatever is left is read as this one.
    return file.suffix != ".safetensors" or set(NAMES.values()) <= set(named_tensors(file)[0])


def _read(path: Path, known: Known) -> CrossCoder:
    file = _file(path)
    tensors, metadata = _load(path)
    encoder, b_enc, decoder, b_dec = take(file, tensors, *NAMES.values(), optional=_OPTIONAL)
    if encoder.dim() != 3 or decoder.dim() != 3:
        raise CrosscoderError(f"{file} is of one layer: its weights have {encoder.dim()} axes, not checkpoint, D and F")
    weights = Weights(encoder, b_enc, decoder.transpose(0, 1), b_dec, NAMES).checked(file)
    beside = file.with_name(CONFIGURATION)
    config = Settings.read(beside) if beside.is_file() else Settings(str(beside), {})
    normalizer, weights = _normalizer(file, tensors, config, weights)
    stored = Settings.parse(f"{file}, origin", metadata.get("origin", "{}"))
    site = stored.text("site")
    origin = origin_of(
        file, known, weights, suite=stored.text("suite"), revisions=stored.texts("revisions"),
        site=None if site is None else Site.parse(site),
        training=stored.table("training").values if "training" in stored.values else config.values,
    )  # fmt: skip
    scales = scales_from(file, known, weights.W_dec.shape[1], normalizer)
    return weights.crosscoder(file, origin, scales, _activation(file, tensors, config, weights))


def _normalizer(
    path: Path, tensors: dict[str, Tensor], config: Settings, weights: Weights
) -> tuple[Tensor | None, Weights]:
    """The scales ``g_c`` of a normaliser, and weights that have its means in their biases."""
    if "activation_mean" not in tensors:
        return None, weights
    n_checkpoints, width = weights.b_dec.shape
    sizes = {"activation_mean": (n_checkpoints, width), "activation_std": (n_checkpoints, width)}
    for name, shape in (sizes | {"activation_global_scale": (n_checkpoints,)}).items():
        tensor = tensors.get(name)
        if tensor is None or tuple(tensor.shape) != shape:
            found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}, not {shape}"
            raise CrosscoderError(f"{path}: {name} {found}")
    if not all(tensors[name].float().isfinite().all() for name in sizes):
        return None, weights
    if not config.truth("keep_relative_variance", default=True):
        raise CrosscoderError(
            f"{path} divides every dimension by its own deviation, which no scale a checkpoint can do"
        )
    g = tensors["activation_global_scale"].float()
    moved = tensors["activation_mean"].float() * g.unsqueeze(-1)
    b_enc = weights.b_enc - torch.einsum("cd,cdf->f", moved, weights.W_enc)
    return g, Weights(weights.W_enc, b_enc, weights.W_dec, weights.b_dec + moved, weights.names)


def _activation(path: Path, tensors: dict[str, Tensor], config: Settings, weights: Weights) -> Activation | None:
    if "threshold" not in tensors:
        return None
    number = number_in(path, tensors, "code_normalization_id")
    name = NORMALIZATIONS.get(1 if number is None else int(number), f"{number}")
    if name not in ("CROSSCODER", "SAE", "NONE"):
        raise CrosscoderError(f"{path} weights its codes by {name}; CROSSCODER, SAE and NONE are known")
    threshold = number_in(path, tensors, "threshold")
    if threshold < 0:
        raise CrosscoderError(f"{path} has no threshold yet: it was not trained long enough to be used token by token")
    n_features = len(weights.b_enc)
    if name == "CROSSCODER":
        k = number_in(path, tensors, "k") or config.whole("k") or 1
        part = BatchTopK(n_features, k=int(min(max(1, k), n_features)))
        part.threshold.fill_(threshold)
        return part
    # One threshold on other norms is a threshold of each feature's own on ours.
    ours = weights.W_dec.norm(dim=-1).sum(1)
    theirs = weights.W_dec.flatten(1).norm(dim=1) if name == "SAE" else torch.ones(n_features)
    jump = JumpReLU(n_features)
    with torch.no_grad():
        jump.log_threshold.copy_((threshold * ours / theirs.clamp_min(1e-30)).log())
    return jump


def _write(crosscoder: CrossCoder, path: Path) -> None:
    activation, scales = crosscoder.activation, crosscoder.scales.cpu()
    if activation.name not in ("relu", "batchtopk"):
        raise CrosscoderError(f"the format finetuning holds relu and batchtopk, not {activation.name}; take crosstime")
    refuse_folded(crosscoder, FORMAT.name)
    n_checkpoints, width = crosscoder.n_checkpoints, crosscoder.origin.d_model
    tensors = {
        "encoder.weight": crosscoder.W_enc, "encoder.bias": crosscoder.b_enc,
        "decoder.weight": crosscoder.W_dec.transpose(0, 1), "decoder.bias": crosscoder.b_dec,
        "code_normalization_id": torch.tensor(1),
    }  # fmt: skip
    config = {
        "activation_dim": width, "dict_size": crosscoder.n_features, "num_layers": n_checkpoints,
        "code_normalization": "CROSSCODER",
    }  # fmt: skip
    if isinstance(activation, BatchTopK):
        tensors |= {"k": torch.tensor(activation.k, dtype=torch.int32), "threshold": activation.threshold}
        config["k"] = activation.k
    if not torch.equal(scales, torch.ones(n_checkpoints)):
        # Deviations whose sum of squares is that of a global scale s_c, which is how the other side would compute it.
        deviation = (1 / (scales * width**0.5)).unsqueeze(-1).expand(n_checkpoints, width)
        tensors |= {
            "activation_mean": torch.zeros(n_checkpoints, width), "activation_std": deviation,
            "activation_global_scale": scales, "target_rms": torch.tensor(1.0),
        }  # fmt: skip
    origin = crosscoder.origin
    facts = {"suite": origin.suite, "revisions": origin.revisions, "site": str(origin.site)}
    metadata = {"format": "pt", "origin": json.dumps(facts | {"training": plain(origin.training)})}
    with atomic_path(path) as folder:
        folder.mkdir()
        write_tensors(folder / WEIGHTS, tensors, metadata)
        write_json(folder / CONFIGURATION, config)


FORMAT = Format(
    "finetuning", f"a state dict with encoder.weight and decoder.weight, or a folder with it as {WEIGHTS}", True,
    _holds, _read, _write,
)  # fmt: skip
