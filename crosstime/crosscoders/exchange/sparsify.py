"""The format of EleutherAI's sparsify for a sparse autoencoder (C = 1): ``sae.safetensors`` next to ``cfg.json``.

``encoder.weight`` F D, ``encoder.bias`` F, ``W_dec`` F D, ``b_dec`` D. Its codes are the k largest of
``relu(W (x - b_dec) + b)``. Transcoders, skip connections and groupmax are other functions.
"""

from __future__ import annotations

import re

import torch

from crosstime.crosscoders.activation_functions import TopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import FilePair, Format
from crosstime.crosscoders.exchange.hooks import site_of
from crosstime.crosscoders.exchange.known_keys import SPARSIFY
from crosstime.crosscoders.exchange.settings import Settings
from crosstime.crosscoders.exchange.source import Source, reader
from crosstime.crosscoders.exchange.weights import Weights
from crosstime.errors import CrosscoderError
from interventions import Site

FILES = FilePair("sae.safetensors", "cfg.json")
NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec"}
DEFAULT_K = 32


def _build(source: Source) -> CrossCoder:
    # Refuse other functions
    config = source.config
    source.check_keys(SPARSIFY)
    for key in ("transcode", "skip_connection"):
        if config.boolean(key, default=False):
            raise CrosscoderError(f"{config.location} says {key}: that is a transcoder, not a crosscoder")
    activation = config.string("activation") or "topk"
    if activation != "topk":
        raise CrosscoderError(f"{config.location} says the activation {activation!r}; topk can be read")

    # The weights
    W_enc, b_enc, W_dec, b_dec = source.take(*NAMES.values())
    weights = Weights.of_autoencoder(W_enc.mT if W_enc.dim() == 2 else W_enc, b_enc, W_dec, b_dec, names=NAMES)
    config.check_sizes({"d_in": weights.d_model})
    if config.integer("num_latents"):
        config.check_sizes({"num_latents": weights.n_features})
    weights = weights.for_centred_input()

    # What it was trained on: the folder has the name of the hook point
    origin = source.origin(
        weights,
        suite=None,
        revisions=None,
        site=_site_of_folder(source.path.parent.name),
        training=source.training(Settings(config.location, {})),
    )
    k = config.integer("k") or DEFAULT_K
    crosscoder = weights.crosscoder(origin, source.scales(origin), TopK(weights.n_features, k=k))
    # The selection weights codes by these norms, and here it must not weight them
    crosscoder.norms_before_folding = torch.ones(1, crosscoder.n_features)
    return crosscoder


def _site_of_folder(name: str) -> Site | None:
    """The site that a folder is named by, such as ``layers.3`` or ``layers.3.mlp``; None if it is not."""
    match = re.fullmatch(r"(?:\w+\.)*(?:layers|h)\.(\d{1,5})(?:\.(mlp|attention|attn|self_attn))?", name)
    if match is None:
        return None
    if match[2] is None:
        return site_of(f"model.layers.{match[1]}")
    return Site(int(match[1]), "mlp" if match[2] == "mlp" else "attn")


FORMAT = Format(
    "sparsify",
    f"a folder with {FILES.weights} and {FILES.configuration}",
    is_folder=True,
    holds=FILES.holds,
    read=reader(FILES.locate, _build),
    write=None,
)
