"""The sparse autoencoders (C = 1) of dictionary_learning: ``ae.pt`` next to ``config.json``, as its `trainSAE` saves.

The class is ``trainer.dict_class`` of the configuration. All of them subtract the decoder bias from the input, but
`AutoEncoderNew` and `JumpReluAutoEncoder`. `AutoEncoder` is read as `load_dictionary` does, with decoder directions of
norm one; a batch top-k is a threshold on the codes. `CrossCoder` has a format of its own (`finetuning`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from crosstime.crosscoders.activation_functions import TopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import FilePair, Format
from crosstime.crosscoders.exchange.known_keys import DICTIONARY_LEARNING
from crosstime.crosscoders.exchange.settings import Settings
from crosstime.crosscoders.exchange.source import Source, reader, refuse_unset
from crosstime.crosscoders.exchange.weights import Weights
from crosstime.errors import CrosscoderError
from crosstime.machine.tensors import TensorError
from interventions import Site

FILES = FilePair("ae.pt", "config.json")
LINEAR = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight"}
"""Names of the tensors of classes that are made of linear layers, F D, F and D F."""
CLASSES = {
    "AutoEncoder": LINEAR | {"b_dec": "bias"},
    "AutoEncoderNew": LINEAR | {"b_dec": "decoder.bias"},
    "AutoEncoderTopK": LINEAR | {"b_dec": "b_dec"},
    "BatchTopKSAE": LINEAR | {"b_dec": "b_dec"},
    "MatryoshkaBatchTopKSAE": {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"},
    "JumpReluAutoEncoder": {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"},
}
_RAW_INPUT = ("AutoEncoderNew", "JumpReluAutoEncoder")
_OPTIONAL = ("k", "threshold", "group_sizes")


def _holds(path: Path) -> bool:
    if not FILES.holds(path):
        return False
    name = Settings.read(FILES.locate(path)[1]).table("trainer").string("dict_class")
    return name is not None and "CrossCoder" not in name


def _build(source: Source) -> CrossCoder:
    # Check the class, and its settings
    trainer = source.config.table("trainer")
    source.check_keys(("trainer", "buffer"))
    trainer.check_keys(DICTIONARY_LEARNING, source.overrides.ignored)
    dict_class = trainer.string("dict_class") or ""
    if dict_class not in CLASSES:
        raise CrosscoderError(
            f"{trainer.location} says dict_class {dict_class!r}, another function than those that can be read from "
            f"this format, {', '.join(CLASSES)}"
        )

    # The weights, whose encoder may be transposed
    names = CLASSES[dict_class]
    W_enc, b_enc, W_dec, b_dec = source.take(*names.values(), optional=_OPTIONAL)
    if names["W_enc"] == "encoder.weight":
        W_enc, W_dec = W_enc.mT if W_enc.dim() == 2 else W_enc, W_dec.mT if W_dec.dim() == 2 else W_dec
    weights = Weights.of_autoencoder(W_enc, b_enc, W_dec, b_dec, names=names)
    trainer.check_sizes({"activation_dim": weights.d_model, "dict_size": weights.n_features})
    if dict_class not in _RAW_INPUT:
        weights = weights.for_centred_input()
    if dict_class == "AutoEncoder":
        norms = weights.norms()
        weights = weights.with_codes_times(torch.where(norms > 0, norms, torch.ones_like(norms)))

    # What it was trained on
    submodule, layer = trainer.string("submodule_name"), trainer.integer("layer")
    is_resid = submodule is None or "resid_post" in submodule
    origin = source.origin(
        weights,
        suite=trainer.string("lm_name"),
        revisions=None,
        site=Site(layer) if layer is not None and layer >= 0 and is_resid else None,
        training=source.training(Settings(source.config.location, {})),
    )
    scales = source.scales(origin)

    # Its activation function
    if dict_class == "AutoEncoderTopK":
        k = source.number("k") or trainer.integer("k")
        if not k:
            raise TensorError("it has no tensor k, and the configuration does not say it either")
        crosscoder = weights.crosscoder(origin, scales, TopK(weights.n_features, k=int(k)))
        # The selection weights codes by these norms, and here it must not weight them
        crosscoder.norms_before_folding = torch.ones(1, crosscoder.n_features)
        return crosscoder
    threshold = _threshold(source, dict_class, weights)
    return weights.crosscoder(origin, scales, None if threshold is None else weights.jumprelu(threshold))


def _threshold(source: Source, dict_class: str, weights: Weights) -> Tensor | None:
    """The thresholds of the codes, one for all features or one for each; None for ReLU."""
    if dict_class == "JumpReluAutoEncoder":
        if "threshold" not in source.tensors or source.tensors["threshold"].shape != (weights.n_features,):
            raise TensorError(f"it has no tensor threshold of shape ({weights.n_features},)")
        return source.tensors["threshold"].float().relu()
    if dict_class not in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        return None
    threshold = source.number("threshold")
    if threshold is None:
        raise TensorError("it has no tensor threshold, by which a batch top-k selects token by token")
    refuse_unset(source.path, threshold)
    return torch.full((weights.n_features,), threshold)


FORMAT = Format(
    "dictionary_learning",
    f"a folder with {FILES.weights} and {FILES.configuration}, of a sparse autoencoder",
    is_folder=True,
    holds=_holds,
    read=reader(FILES.locate, _build),
    write=None,
)
