"""The format of the release of Crosscoding Through Time (arXiv 2509.05291): ``{n}.pt`` next to ``{n}_cfg.json``.

The weights are on the scale of training, and the scales are in the configuration as ``estimated_act_norm_list``.
BatchTopK has two more tensors, ``k`` and ``threshold``, and its configuration has a ``batch_topk_final`` that is not
null.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crosstime.crosscoders.activation_functions import BatchTopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import FilePair, Format, jsonable, refuse_folded
from crosstime.crosscoders.exchange.hooks import hook_of
from crosstime.crosscoders.exchange.joined_revisions import split_revisions
from crosstime.crosscoders.exchange.known_keys import CTT
from crosstime.crosscoders.exchange.source import Source, reader
from crosstime.crosscoders.exchange.weights import Weights
from crosstime.errors import CrosscoderError

TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec")
SCALES = "estimated_act_norm_list"
_NUMBERED = re.compile(r"(\d+)\.pt")


def _configuration(weights: Path) -> Path:
    return weights.with_name(f"{weights.stem}_cfg.json")


def _is_numbered(file: Path) -> bool:
    return _NUMBERED.fullmatch(file.name) is not None and _configuration(file).is_file()


def _holds(path: Path) -> bool:
    return any(map(_is_numbered, path.iterdir())) if path.is_dir() else _is_numbered(path)


def _locate(path: Path) -> tuple[Path, Path]:
    """The weights with the highest number, and their configuration."""
    if not path.is_dir():
        return path, _configuration(path)
    numbered = [file for file in path.iterdir() if _is_numbered(file)]
    if not numbered:
        raise CrosscoderError(f"{path} has no weights 0.pt with a configuration 0_cfg.json")
    weights = max(numbered, key=lambda file: int(file.stem))
    return weights, _configuration(weights)


def _build(source: Source) -> CrossCoder:
    return build_crosscoder(source, scales_key=SCALES)


def build_crosscoder(source: Source, *, scales_key: str) -> CrossCoder:
    """The crosscoder of weights and configuration in CTT's convention.

    Args:
        source: the opened files.
        scales_key: key of the configuration under which the scales are stored.
    """
    # Check the configuration and the weights, and the sizes that the configuration claims
    config = source.config
    crosstime_facts = config.table("crosstime")
    if "revisions" not in config.values or crosstime_facts.values:
        # Without the table, a list of revisions says that an earlier crosstime wrote the file, with its own keys
        source.check_keys(CTT | {scales_key})
    weights = Weights.checked(*source.take(*TENSORS, optional=("k", "threshold")))
    config.check_sizes({"dict_size": weights.n_features, "d_in": weights.d_model, "n_models": weights.n_checkpoints})

    # The activation function is BatchTopK if there is a threshold, and ReLU otherwise
    threshold = source.number("threshold")
    activation = None
    if threshold is not None:
        activation = source.batch_topk(weights.n_features, threshold, k_setting="batch_topk_final")
    elif config.integer("batch_topk_final") is not None:
        raise CrosscoderError(f"{config.location} says batch_topk_final, but {source.path} has no tensor threshold")

    # What it was trained on
    origin = source.origin(
        weights,
        suite=config.string("suite") or config.string("model_name"),
        revisions=_revisions(source, weights.n_checkpoints),
        site=source.hook_site(config.string("hook_point")),
        training=source.training(crosstime_facts),
    )
    scales = source.scales_of_training(origin, config.values.get(scales_key), f"{scales_key} in {config.location}")
    return weights.crosscoder(origin, scales, activation)


def _revisions(source: Source, n_checkpoints: int) -> tuple[str, ...] | None:
    """The list that we write; else CTT's joined names. None if there is neither, or the caller names the revisions."""
    config = source.config
    if source.overrides.revisions is not None:
        return None
    if (revisions := config.strings("revisions")) is not None:
        return revisions
    if not (joined := config.string("revision_list")):
        return None
    model_type, model = config.string("model_type") or "", config.string("model_name") or ""
    return split_revisions(joined, n_checkpoints, config.location, model_type, model)


def ctt_tensors(crosscoder: CrossCoder) -> dict[str, Tensor]:
    """The four weights by their names in this format."""
    return {name: getattr(crosscoder, name).detach().cpu().contiguous() for name in TENSORS}


def ctt_settings(crosscoder: CrossCoder) -> dict[str, Any]:
    """The settings that CTT's loader needs, and those that we read back."""
    origin = crosscoder.origin
    separator = "_" if any("-" in revision for revision in origin.revisions) else "-"
    return {
        "dict_size": crosscoder.n_features,
        "d_in": origin.d_model,
        "n_models": crosscoder.n_checkpoints,
        "enc_dtype": "fp32",
        "seed": int(origin.training.get("seed", 0)),
        "device": "cpu",
        "dec_init_norm": 0.08,
        "model_name": origin.suite,
        "revision_list": separator.join(origin.revisions),
        "revisions": list(origin.revisions),
        "hook_point": hook_of(origin.site, before=True),
        "crosstime": {"training": jsonable(origin.training)},
    }


def _write(crosscoder: CrossCoder, path: Path) -> None:
    tensors, config = ctt_tensors(crosscoder), ctt_settings(crosscoder)

    # Add what BatchTopK needs
    activation = crosscoder.activation
    if isinstance(activation, BatchTopK):
        refuse_folded(crosscoder, FORMAT.name)
        tensors |= {"k": torch.tensor(activation.k, dtype=torch.int32), "threshold": activation.threshold.cpu().clone()}
        config |= {"batch_topk_init": activation.k, "batch_topk_final": activation.k}
    elif activation.name != "relu":
        raise CrosscoderError(f"the format ctt holds relu and batchtopk, not {activation.name}; take crosstime")

    # Add the scales and the name that CTT's loader splits
    origin = crosscoder.origin
    config |= {
        SCALES: crosscoder.scales.tolist(),
        "model_type": "-".join(f"{origin.suite}/{revision}" for revision in origin.revisions),
    }
    FilePair("0.pt", "0_cfg.json").write(path, tensors, config)


FORMAT = Format(
    "ctt",
    "a folder with 0.pt (W_enc, W_dec, b_enc, b_dec) and 0_cfg.json",
    is_folder=True,
    holds=_holds,
    read=reader(_locate, _build),
    write=_write,
)
