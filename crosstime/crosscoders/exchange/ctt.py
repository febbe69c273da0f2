"""The release of Crosscoding Through Time (arXiv 2509.05291): ``{n}.pt`` beside ``{n}_cfg.json``.

Weights are on the scale of training, and the scales stand in the configuration as ``estimated_act_norm_list``.
BatchTopK has two more tensors, ``k`` and ``threshold``, and a configuration whose ``batch_topk_final`` is not null.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crosstime.crosscoders.activation_functions import BatchTopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import (
    Format,
    Known,
    Weights,
    number_in,
    origin_of,
    plain,
    refuse_folded,
    scales_from,
    take,
    unpickled,
)
from crosstime.crosscoders.exchange.hooks import hook_of, site_of
from crosstime.crosscoders.exchange.settings import Settings
from crosstime.errors import CrosscoderError
from crosstime.machine.storage import atomic_path, write_json

NAMES = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
_NUMBERED = re.compile(r"(\d+)\.pt")


def _numbered(folder: Path) -> list[Path]:
    files = [file for file in folder.iterdir() if _NUMBERED.fullmatch(file.name) and _configuration(file).is_file()]
    return sorted(files, key=lambda file: int(file.stem))


def _configuration(weights: Path) -> Path:
    return weights.with_name(f"{weights.stem}_cfg.json")


def _holds(path: Path) -> bool:
    if path.is_dir():
        return bool(_numbered(path))
    return _NUMBERED.fullmatch(path.name) is not None and _configuration(path).is_file()


def _read(path: Path, known: Known) -> CrossCoder:
    found = _numbered(path) if path.is_dir() else [path]
    if not found:
        raise CrosscoderError(f"{path} has no weights 0.pt with a configuration 0_cfg.json")
    return read_pair(found[-1], _configuration(found[-1]), known, "estimated_act_norm_list")


def read_pair(path: Path, configuration_path: Path, known: Known, scales_key: str) -> CrossCoder:
    """A crosscoder from its weights, its configuration, and the key under which that keeps the scales."""
    config, tensors = Settings.read(configuration_path), unpickled(path)
    parts = take(path, tensors, *NAMES, optional=("k", "threshold"))
    weights = Weights(*parts, names=NAMES).checked(path)
    n_features, n_checkpoints, _ = weights.W_dec.shape
    for key, size in (("dict_size", n_features), ("d_in", weights.W_dec.shape[2]), ("n_models", n_checkpoints)):
        if config.whole(key) not in (None, size):
            raise CrosscoderError(f"{configuration_path} says {key} {config.values[key]}, but the weights have {size}")
    activation = None
    threshold = number_in(path, tensors, "threshold")
    if threshold is not None:
        k = number_in(path, tensors, "k") or config.whole("batch_topk_final") or 1
        activation = BatchTopK(n_features, k=int(min(max(1, k), n_features)))
        activation.threshold.fill_(threshold)
    hook = config.text("hook_point") if known.site is None else None
    origin = origin_of(
        path, known, weights, suite=config.text("suite") or config.text("model_name"),
        revisions=_revisions(config, n_checkpoints), site=None if hook is None else site_of(hook),
        training=config.values,
    )  # fmt: skip
    scales = scales_from(path, known, n_checkpoints, config.values.get(scales_key))
    return weights.crosscoder(path, origin, scales, activation)


def _revisions(config: Settings, n_checkpoints: int) -> tuple[str, ...] | None:
    """The list under our own key; else CTT's joined names, with ``_`` for OLMo, whose names have ``-`` in them."""
    if (named := config.texts("revisions")) is not None:
        return named
    joined = config.text("revision_list") or ""
    for mark in "_-":
        if len(names := joined.split(mark)) == n_checkpoints:
            return tuple(names) if joined else None
    return None


def tensors_of(crosscoder: CrossCoder) -> dict[str, Tensor]:
    """The four weights under their names here."""
    return {name: getattr(crosscoder, name).detach().cpu().contiguous() for name in NAMES}


def settings_of(crosscoder: CrossCoder) -> dict[str, Any]:
    """What CTT's loader needs, and what ours wants to know again."""
    origin = crosscoder.origin
    mark = "_" if any("-" in revision for revision in origin.revisions) else "-"
    return plain(origin.training) | {
        "dict_size": crosscoder.n_features, "d_in": origin.d_model, "n_models": crosscoder.n_checkpoints,
        "enc_dtype": "fp32", "seed": int(origin.training.get("seed", 0)), "device": "cpu", "dec_init_norm": 0.08,
        "model_name": origin.suite, "revision_list": mark.join(origin.revisions), "revisions": list(origin.revisions),
        "hook_point": hook_of(origin.site, before=True),
    }  # fmt: skip


def _write(crosscoder: CrossCoder, path: Path) -> None:
    tensors, config = tensors_of(crosscoder), settings_of(crosscoder)
    activation = crosscoder.activation
    if isinstance(activation, BatchTopK):
        refuse_folded(crosscoder, FORMAT.name)
        tensors |= {"k": torch.tensor(activation.k, dtype=torch.int32), "threshold": activation.threshold.cpu().clone()}
        config |= {"batch_topk_init": activation.k, "batch_topk_final": activation.k}
    elif activation.name != "relu":
        raise CrosscoderError(f"the format ctt holds relu and batchtopk, not {activation.name}; take crosstime")
    config |= {
        "estimated_act_norm_list": crosscoder.scales.tolist(),
        "model_type": "-".join(f"{crosscoder.origin.suite}/{revision}" for revision in crosscoder.origin.revisions),
    }
    with atomic_path(path) as folder:
        folder.mkdir()
        torch.save(tensors, folder / "0.pt")
        write_json(folder / "0_cfg.json", config)


FORMAT = Format(
    "ctt", "a folder with 0.pt (W_enc, W_dec, b_enc, b_dec) and 0_cfg.json", True, _holds, _read, _write
)  # fmt: skip
