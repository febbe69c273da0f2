"""A sparse autoencoder as SAELens keeps it (C = 1): ``sae_weights.safetensors`` beside ``cfg.json``.

``W_enc`` D F, ``b_enc`` F, ``W_dec`` F D, ``b_dec`` D; JumpReLU has ``threshold`` F, on codes as they are, where ours
is on codes times decoder norm. ``apply_b_dec_to_input`` takes the decoder bias off the input: it goes into ``b_enc``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, BatchTopK, JumpReLU, TopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import (
    Format,
    Known,
    Weights,
    folder_of,
    holds_pair,
    named_tensors,
    origin_of,
    plain,
    scales_from,
    take,
)
from crosstime.crosscoders.exchange.hooks import hook_of, site_of
from crosstime.crosscoders.exchange.settings import Settings
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.storage import atomic_path, write_json
from crosstime.machine.tensors import write_tensors
from user_input.nearest import nearest

WEIGHTS, CONFIGURATION = "sae_weights.safetensors", "cfg.json"
NAMES = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
ARCHITECTURES = ("standard", "topk", "jumprelu")
NORMALIZED = {"none": False, "expected_average_only_in": True}
"""Ways of normalising that a scale stands for, and whether there is one."""


def _holds(path: Path) -> bool:
    return holds_pair(path, WEIGHTS, CONFIGURATION)


def _read(path: Path, known: Known) -> CrossCoder:
    file, config = folder_of(path) / WEIGHTS, Settings.read(folder_of(path) / CONFIGURATION)
    tensors, _ = named_tensors(file)
    W_enc, b_enc, W_dec, b_dec = take(file, tensors, *NAMES, optional=("threshold", "log_threshold"))
    if W_dec.dim() != 2:
        raise CrosscoderError(f"{file}: W_dec has shape {tuple(W_dec.shape)}, not two axes")
    weights = Weights(W_enc.unsqueeze(0), b_enc, W_dec.unsqueeze(1), b_dec.unsqueeze(0), NAMES).checked(file)
    scale = _scale(file, config, known)
    if config.truth("apply_b_dec_to_input", default=True):
        b_enc = weights.b_enc - weights.b_dec[0] @ weights.W_enc[0]
        weights = Weights(weights.W_enc, b_enc, weights.W_dec, weights.b_dec, NAMES)
    activation, selects_raw = _activation(file, config, tensors, weights)
    made = weights.crosscoder(file, _origin(file, config, known, weights), scale, activation)
    if selects_raw:
        # Selection weights codes by these norms, and this one does not weight at all.
        made.norms_before_folding = torch.ones(1, made.n_features)
    return made


def _scale(path: Path, config: Settings, known: Known) -> Tensor | None:
    way = config.text("normalize_activations") or "none"
    shape = config.text("reshape_activations") or "none"
    if way not in NORMALIZED or shape != "none":
        raise CrosscoderError(
            f"{path} normalises activations by {way} and reshapes them by {shape}: "
            "that depends on each token, which no crosscoder here does"
        )
    if NORMALIZED[way] and known.scales is None:
        raise CrosscoderError(
            f"{path} was trained on activations times s = sqrt(D) / E||x||, but does not keep s: give it as scales=[s]"
        )
    return scales_from(path, known, 1)


def _origin(path: Path, config: Settings, known: Known, weights: Weights) -> Origin:
    metadata = config.table("metadata")
    ours = metadata.table("crosstime")
    hook = None if known.site is not None else metadata.text("hook_name") or config.text("hook_name")
    return origin_of(
        path, known, weights, suite=ours.text("suite") or metadata.text("model_name") or config.text("model_name"),
        revisions=ours.texts("revisions"), site=None if hook is None else site_of(hook),
        training=ours.table("training").values if "training" in ours.values else config.values,
    )  # fmt: skip


def _activation(
    path: Path, config: Settings, tensors: dict[str, Tensor], weights: Weights
) -> tuple[Activation | None, bool]:
    """The activation function, and whether it selects on codes that are not weighted by norms."""
    n_features = len(weights.b_enc)
    architecture, k = config.text("architecture") or "standard", config.whole("k")
    if architecture == "standard" and "topk" in (config.text("activation_fn_str"), config.text("activation_fn")):
        architecture, k = "topk", config.table("activation_fn_kwargs").whole("k") or k
    if architecture not in ARCHITECTURES:
        raise CrosscoderError(f"{path} is of architecture {architecture!r}: {nearest(architecture, ARCHITECTURES)}")
    if architecture == "standard":
        return None, False
    if architecture == "topk":
        weighted = config.truth("rescale_acts_by_decoder_norm", default=False)
        return TopK(n_features, k=100 if k is None else k), not weighted
    if "threshold" in tensors:
        threshold = tensors["threshold"].float().relu()
    else:
        threshold = take(path, tensors, "log_threshold", optional=tuple(NAMES))[0].float().exp()
    if threshold.shape != (n_features,):
        raise CrosscoderError(f"{path}: threshold has shape {tuple(threshold.shape)}, not {(n_features,)}")
    if threshold.isnan().any():
        raise CrosscoderError(f"{path}: threshold has places that are not a number")
    jump = JumpReLU(n_features)
    with torch.no_grad():
        jump.log_threshold.copy_((threshold * weights.W_dec.norm(dim=-1).sum(1)).log())
    return jump, False


def _write(crosscoder: CrossCoder, path: Path) -> None:
    if crosscoder.n_checkpoints != 1:
        raise CrosscoderError(
            f"the format saelens holds sparse autoencoders, of one checkpoint; this crosscoder has "
            f"{crosscoder.n_checkpoints}; take ctt, finetuning or crosstime"
        )
    folded, norms = crosscoder.fold(), crosscoder.selection_norms().detach()
    tensors = {
        "W_enc": folded.W_enc[0], "b_enc": folded.b_enc, "W_dec": folded.W_dec[:, 0], "b_dec": folded.b_dec[0]
    }  # fmt: skip
    activation, origin = crosscoder.activation, crosscoder.origin
    config: dict[str, Any] = {
        "architecture": "standard", "d_in": origin.d_model, "d_sae": crosscoder.n_features, "dtype": "float32",
        "device": "cpu", "apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {
            "model_name": origin.suite, "hook_name": hook_of(origin.site),
            "crosstime": {
                "suite": origin.suite, "revisions": list(origin.revisions), "training": plain(origin.training)
            },
        },
    }  # fmt: skip
    if isinstance(activation, TopK):
        config |= {"architecture": "topk", "k": activation.k}
        config["rescale_acts_by_decoder_norm"] = _rescaled(norms, folded.W_dec[:, 0].detach().norm(dim=-1))
    elif isinstance(activation, JumpReLU | BatchTopK):
        weighted = activation.threshold if isinstance(activation, BatchTopK) else activation.log_threshold.exp()
        config["architecture"] = "jumprelu"
        # A feature of norm zero never fires here, which no finite threshold says.
        tensors["threshold"] = torch.where(norms > 0, weighted.detach() / norms, torch.finfo(torch.float32).max)
    with atomic_path(path) as folder:
        folder.mkdir()
        write_tensors(folder / WEIGHTS, {name: tensor.float() for name, tensor in tensors.items()})
        write_json(folder / CONFIGURATION, config)


def _rescaled(selection: Tensor, folded: Tensor) -> bool:
    """Whether a top-k that weights by `selection` is one by decoder norms, and not one that weights all alike."""
    for rescaled, wanted in ((False, torch.ones_like(selection)), (True, folded)):
        ratio = selection / wanted
        if torch.allclose(ratio, ratio.mean().expand_as(ratio), rtol=1e-5):
            return rescaled
    raise CrosscoderError("the format saelens cannot select by norms that are not the decoder's; take crosstime")


FORMAT = Format("saelens", f"a folder with {WEIGHTS} and {CONFIGURATION}", True, _holds, _read, _write)
