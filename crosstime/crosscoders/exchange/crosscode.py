"""The format of crosscode for a crosscoder of several models: ``model.pt`` next to ``model_cfg.yaml``.

``_W_enc_XiDiL`` M P D F, ``b_enc_L`` F, ``_W_dec_LXoDo`` F M P D, ``_b_dec_XoDo`` M P D, for M models and P hook points
of each; biases can be missing. Only one hook point can be read, because several are different sites. The activation
function is ReLU, a JumpReLU on codes as they are, or a top-k. The weights are on the scale of training, unless
``is_folded``.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, TopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import FilePair, Format
from crosstime.crosscoders.exchange.known_keys import CROSSCODE
from crosstime.crosscoders.exchange.settings import Settings
from crosstime.crosscoders.exchange.source import Source, reader
from crosstime.crosscoders.exchange.weights import Weights
from crosstime.errors import CrosscoderError
from crosstime.machine.tensors import TensorError, check_tensor

FILES = FilePair("model.pt", "model_cfg.yaml")
NAMES = {"W_enc": "_W_enc_XiDiL", "b_enc": "b_enc_L", "W_dec": "_W_dec_LXoDo", "b_dec": "_b_dec_XoDo"}
THRESHOLD = "_activation_fn.log_threshold_L"
FOLDED = ("is_folded", "folded_scaling_factors_in_Xi", "folded_scaling_factors_out_Xo")
"""Whether the scales of training are in the weights, and what they were."""


def _build(source: Source) -> CrossCoder:
    # The weights, of one hook point
    source.check_keys(CROSSCODE)
    optional = (NAMES["b_enc"], NAMES["b_dec"], THRESHOLD, *FOLDED)
    W_enc, W_dec = source.take(NAMES["W_enc"], NAMES["W_dec"], optional=optional)
    check_tensor(NAMES["W_dec"], W_dec, (None, None, None, None))
    n_features, n_models, n_hookpoints, width = W_dec.shape
    check_tensor(NAMES["W_enc"], W_enc, (n_models, n_hookpoints, width, n_features))
    if n_hookpoints != 1:
        raise CrosscoderError(
            f"{source.path} is of {n_hookpoints} hook points: the checkpoints of a crosscoder here have one site"
        )
    b_enc = source.tensors.get(NAMES["b_enc"], torch.zeros(n_features))
    b_dec = source.tensors.get(NAMES["b_dec"], torch.zeros(n_models, 1, width))
    check_tensor(NAMES["b_dec"], b_dec, (n_models, 1, width))
    weights = Weights.checked(W_enc.squeeze(1), b_enc, W_dec.squeeze(2), b_dec.squeeze(1), names=NAMES)
    source.config.check_sizes(
        {"n_models": n_models, "n_hookpoints": n_hookpoints, "d_model": width, "n_latents": n_features}
    )

    # Its files say nothing of models and site
    origin = source.origin(
        weights, suite=None, revisions=None, site=None, training=source.training(Settings(source.config.location, {}))
    )
    folded = source.tensors.get(FOLDED[0])
    scales: Tensor | None
    if folded is None or not bool(folded.any()):
        scales = source.scales_of_training(origin, None, f"{FOLDED[0]} in {source.path} is false")
    else:
        scales = source.scales(origin)
    crosscoder = weights.crosscoder(origin, scales, _activation(source, weights))
    if isinstance(crosscoder.activation, TopK):
        # The selection weights codes by these norms, and here it must not weight them
        crosscoder.norms_before_folding = torch.ones(n_models, n_features) / n_models
    return crosscoder


def _activation(source: Source, weights: Weights) -> Activation | None:
    """The activation function; None for ReLU."""
    table = source.config.table("activation_fn")
    name = table.string("classname") or "ReLUActivation"
    if name == "ReLUActivation":
        return None
    if name == "AnthropicSTEJumpReLUActivation":
        if THRESHOLD not in source.tensors:
            raise TensorError(f"it has no tensor {THRESHOLD}")
        threshold = check_tensor(THRESHOLD, source.tensors[THRESHOLD], (weights.n_features,))
        return weights.jumprelu(threshold.float().exp())
    if name == "TopkActivation":
        warnings.warn(
            f"{source.path}: crosscode's top-k keeps negative codes where fewer than k are positive, and ours does not",
            RuntimeWarning,
            stacklevel=2,
        )
        k = table.table("cfg").integer("k")
        if not k:
            raise CrosscoderError(f"{table.location} does not say k")
        return TopK(weights.n_features, k=k)
    raise CrosscoderError(
        f"{table.location} says {name!r}, which is no function of one token; ReLUActivation, TopkActivation and "
        "AnthropicSTEJumpReLUActivation can be read from this format"
    )


FORMAT = Format(
    "crosscode",
    f"a folder with {FILES.weights} and {FILES.configuration}",
    is_folder=True,
    holds=FILES.holds,
    read=reader(FILES.locate, _build),
    write=None,
)
