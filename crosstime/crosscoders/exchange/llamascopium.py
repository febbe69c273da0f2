"""The format of llamascopium's `Crosscoder`, with which Evolution of Concepts (arXiv 2509.17196) was made.

``sae_weights.safetensors`` lies next to ``config.json``: ``W_E`` C D F, ``b_E`` C F, ``W_D`` C F D, ``b_D`` C D, for
JumpReLU ``activation_function.log_jumprelu_threshold`` F, and for each checkpoint its mean norm E||x_c|| as
``dataset_average_activation_norm.NAME``, with the names of ``hook_points``. Features are gated at each checkpoint by
``pre_i ||W_D[c, i]||``, which is `PerCheckpointJumpReLU`. Of the C encoder biases only the sum is ever read, and it is
our ``b_enc``; we write it as the bias of the first checkpoint.

With ``norm_activation`` ``dataset-wise``, the scales are ``s_c = sqrt(D) / E||x_c||``; with ``inference``, activations
are taken as they are. A folder is read as llamascopium reads it. Its runner `train_crosscoder` writes ``config.json``
first and divides ``b_E`` and ``b_D`` by s_c at the end (``fold_activation_scale``), so that its folders say
``dataset-wise`` although their biases are those of ``inference``, in which nothing tells them apart.

The facts are from llamascopium 2.0.0b34: ``models/crosscoder.py`` and ``models/sparse_dictionary.py``.
"""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, JumpReLU, PerCheckpointJumpReLU
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import FilePair, Format, jsonable, refuse_folded
from crosstime.crosscoders.exchange.known_keys import LLAMASCOPIUM
from crosstime.crosscoders.exchange.settings import Settings
from crosstime.crosscoders.exchange.source import Source, reader
from crosstime.crosscoders.exchange.weights import Weights
from crosstime.errors import CrosscoderError
from crosstime.machine.tensors import TensorError, check_tensor
from interventions import Site

FILES = FilePair("sae_weights.safetensors", "config.json")
OTHER_WEIGHTS = ("sae_weights.pt", "sae_weights.dcp")
NAMES = {"W_enc": "W_E", "b_enc": "b_E", "W_dec": "W_D", "b_dec": "b_D"}
THRESHOLD = "activation_function.log_jumprelu_threshold"
NORM = "dataset_average_activation_norm."
ACTIVATIONS = ("relu", "jumprelu")

_HOOK = re.compile(r"(?:.*[./])?blocks\.\d+\..*")
"""A hook point of TransformerLens, which names a layer rather than a checkpoint."""


def _holds(path: Path) -> bool:
    folder = path if path.is_dir() else path.parent
    names = (FILES.weights, *OTHER_WEIGHTS)
    is_named = path.is_dir() or path.name in names
    return is_named and (folder / FILES.configuration).is_file() and any((folder / name).exists() for name in names)


def _locate(path: Path) -> tuple[Path, Path]:
    weights, configuration = FILES.locate(path)
    other = next((weights.with_name(name) for name in OTHER_WEIGHTS if weights.with_name(name).exists()), None)
    if not weights.is_file() and other is not None:
        raise CrosscoderError(
            f"{other} is not read: load it with llamascopium without a device mesh, and save it with save_pretrained, "
            f"which writes {FILES.weights}"
        )
    return weights, configuration


def _build(source: Source) -> CrossCoder:
    # Check the configuration
    config = source.config
    _check_class(config)
    source.check_keys(LLAMASCOPIUM)
    hooks = config.strings("hook_points")
    if not hooks:
        raise CrosscoderError(f"{config.location} has no hook_points, which name the checkpoints")
    function = (config.string("act_fn") or "relu").lower()
    if function not in ACTIVATIONS:
        raise CrosscoderError(
            f"{config.location} says act_fn {function!r}, another function than those that can be read from this "
            f"format, {' and '.join(ACTIVATIONS)}"
        )

    # Check the weights
    norms = [f"{NORM}{hook}" for hook in hooks]
    required = [*NAMES.values(), *((THRESHOLD,) if function == "jumprelu" else ())]
    W_enc, b_enc, W_dec, b_dec = source.take(*required, optional=tuple(norms))[:4]
    check_tensor(NAMES["b_enc"], b_enc, (len(hooks), None))
    check_tensor(NAMES["W_dec"], W_dec, (len(hooks), None, None))
    weights = Weights.checked(W_enc, b_enc.float().sum(0), W_dec.transpose(0, 1), b_dec, names=NAMES)
    config.check_sizes({"d_model": weights.d_model})
    _check_expansion(config, weights)

    origin = source.origin(
        weights,
        suite=config.table("crosstime").string("suite") or source.path.resolve().parent.name,
        revisions=_revisions(source, hooks),
        site=_site(source, hooks),
        training=source.training(config.table("crosstime")),
    )
    if config.string("norm_activation") == "inference":
        scales = source.scales(origin)
    else:
        scales = source.scales_of_training(origin, _stored_scales(source, norms, weights), f"the tensors {NORM}NAME")
    return weights.crosscoder(origin, scales, _activation(source, weights, function))


def _check_class(config: Settings) -> None:
    """Refuse folders of other classes of llamascopium, and crosscoders of settings that theirs does not have."""
    kind = config.string("sae_type")
    if kind != "crosscoder":
        raise CrosscoderError(
            f"{config.location} is of llamascopium's class {kind!r}; only its class 'crosscoder' can be read"
        )
    for key in ("use_decoder_bias", "sparsity_include_decoder_norm"):
        if not config.boolean(key, default=True):
            raise CrosscoderError(f"{config.location} says {key} false, which llamascopium's crosscoder does not allow")
    normalization = config.string("norm_activation") or "dataset-wise"
    if normalization not in ("dataset-wise", "inference"):
        raise CrosscoderError(
            f"{config.location} says norm_activation {normalization!r}, which one scale per checkpoint cannot express; "
            "dataset-wise and inference can be read"
        )


def _check_expansion(config: Settings, weights: Weights) -> None:
    """Refuse a configuration that is of other weights: F is ``int(D * expansion_factor)``."""
    factor = config.values.get("expansion_factor")
    if factor is None:
        return
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 1e9:
        raise CrosscoderError(f"{config.location}: expansion_factor must be a positive number, not {factor!r}")
    if int(weights.d_model * factor) != weights.n_features:
        raise CrosscoderError(
            f"{config.location} says expansion_factor {factor:g}, which gives {int(weights.d_model * factor)} "
            f"features, but the weights have {weights.n_features}"
        )


def _revisions(source: Source, hooks: tuple[str, ...]) -> tuple[str, ...] | None:
    """The names of the hook points, which are those of the checkpoints."""
    layered = [hook for hook in hooks if _HOOK.fullmatch(hook)]
    if not layered:
        return hooks
    if len(hooks) == 1 or source.has_revisions:
        return None
    raise CrosscoderError(
        f"{source.config.location} has the hook points {', '.join(layered[:3])}: a crosscoder of several layers is "
        "none of several checkpoints; if they are checkpoints, name them with revisions=[...] (--revisions)"
    )


def _site(source: Source, hooks: tuple[str, ...]) -> Site | None:
    """The site that `crosstime` wrote, or that all hook points name."""
    stored = source.config.table("crosstime").string("site")
    if stored is not None:
        return Site.parse(stored)
    layered = {match[0] for hook in hooks if (match := re.search(r"blocks\.\d+\..*", hook)) is not None}
    return source.hook_site(*layered)


def _stored_scales(source: Source, norms: list[str], weights: Weights) -> list[float] | None:
    """``sqrt(D) / E||x_c||``; None if there are no mean norms."""
    present = [name for name in norms if name in source.tensors]
    if not present:
        return None
    if len(present) < len(norms):
        missing = next(name for name in norms if name not in source.tensors)
        raise TensorError(f"it has no tensor {missing}, although it has {present[0]}")
    values = [source.number(name) for name in norms]
    if not all(value is not None and value > 0 for value in values):
        raise TensorError(f"the mean norms {NORM}NAME must be positive, not {values}")
    return [math.sqrt(weights.d_model) / value for value in values if value is not None]


def _activation(source: Source, weights: Weights, function: str) -> Activation | None:
    """A gate per checkpoint; None for ReLU, which is open at all of them where the pre-activation is positive."""
    if function == "relu":
        return None
    log_threshold = check_tensor(THRESHOLD, source.tensors[THRESHOLD], (weights.n_features,)).float()
    if log_threshold.isnan().any():
        raise TensorError(f"{THRESHOLD} has values that are not a number")
    window = source.config.values.get("jumprelu_threshold_window", 2.0)
    if isinstance(window, bool) or not isinstance(window, int | float) or not 0 < window < math.inf:
        raise CrosscoderError(
            f"{source.config.location}: jumprelu_threshold_window must be a positive number, not {window!r}"
        )
    activation = PerCheckpointJumpReLU(weights.n_features, bandwidth=float(window))
    with torch.no_grad():
        activation.log_threshold.copy_(log_threshold)
    return activation


def _write(crosscoder: CrossCoder, path: Path) -> None:
    # Refuse kinds that have no place
    activation, origin = crosscoder.activation, crosscoder.origin
    gates = isinstance(activation, PerCheckpointJumpReLU) or (
        isinstance(activation, JumpReLU) and crosscoder.n_checkpoints == 1
    )
    if not gates and activation.name != "relu":
        raise CrosscoderError(
            "the format llamascopium gates features at each checkpoint, and holds relu and jumprelu_per_checkpoint, "
            f"not {activation.name} of {crosscoder.n_checkpoints} checkpoints; take crosstime"
        )
    refuse_folded(crosscoder, FORMAT.name)
    if closed := int((crosscoder.decoder_norms() == 0).any(0).sum()):
        warnings.warn(
            f"{closed:,} features have a decoder norm of zero at a checkpoint, where llamascopium computes NaN",
            RuntimeWarning,
            stacklevel=2,
        )

    # Weights, mean norms and thresholds
    b_enc = torch.zeros(crosscoder.n_checkpoints, crosscoder.n_features)
    b_enc[0] = crosscoder.b_enc.detach()
    tensors: dict[str, Tensor] = {
        "W_E": crosscoder.W_enc,
        "b_E": b_enc,
        "W_D": crosscoder.W_dec.transpose(0, 1),
        "b_D": crosscoder.b_dec,
    }
    for revision, scale in zip(origin.revisions, crosscoder.scales.tolist(), strict=True):
        tensors[f"{NORM}{revision}"] = torch.tensor(origin.d_model**0.5 / scale)
    if isinstance(activation, JumpReLU):
        tensors[THRESHOLD] = activation.log_threshold
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}

    FILES.write(path, tensors, _configuration(crosscoder))


def _configuration(crosscoder: CrossCoder) -> dict[str, Any]:
    """The configuration of their crosscoder, and what the format has no place for under a key that it passes over."""
    origin, activation = crosscoder.origin, crosscoder.activation
    window = activation.bandwidth if isinstance(activation, JumpReLU) else 2.0
    return {
        "sae_type": "crosscoder",
        "d_model": origin.d_model,
        "expansion_factor": expansion_factor(crosscoder.n_features, origin.d_model),
        "use_decoder_bias": True,
        "act_fn": "jumprelu" if isinstance(activation, JumpReLU) else "relu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "top_k": 50,
        "use_triton_kernel": False,
        "jumprelu_threshold_window": window,
        "hook_points": list(origin.revisions),
        "crosstime": {
            "suite": origin.suite,
            "site": str(origin.site),
            "training": jsonable(origin.training),
        },
    }


def expansion_factor(n_features: int, width: int) -> float:
    """The factor of which ``int(D * factor)`` is F, however the product is rounded.

    Examples:
        >>> expansion_factor(24_576, 768)
        32.0
    """
    factor = n_features / width
    while int(width * factor) < n_features:
        factor = math.nextafter(factor, math.inf)
    return factor


FORMAT = Format(
    "llamascopium",
    f"a folder with {FILES.weights} (W_E, W_D, b_E, b_D) and {FILES.configuration}",
    is_folder=True,
    holds=_holds,
    read=reader(_locate, _build),
    write=_write,
)
