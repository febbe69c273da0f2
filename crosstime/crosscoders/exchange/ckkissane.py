"""The open-source replication of crosscoder model diffing by Kissane et al.: ``cc_weights.pt`` beside ``cfg.json``.

Two models, ReLU. The weights are on the scale of training, and users multiply published scales into them; the format
has no place for these, so they are an argument when such a file is read (``scales=``), and we write them as one more
key of the configuration, which other readers pass over.
"""

from __future__ import annotations

from pathlib import Path

import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.ctt import read_pair, settings_of, tensors_of
from crosstime.crosscoders.exchange.format import Format, Known, folder_of, holds_pair
from crosstime.errors import CrosscoderError
from crosstime.machine.storage import atomic_path, write_json

WEIGHTS, CONFIGURATION, SCALES = "cc_weights.pt", "cfg.json", "activation_scales"


def _holds(path: Path) -> bool:
    return holds_pair(path, WEIGHTS, CONFIGURATION)


def _read(path: Path, known: Known) -> CrossCoder:
    if not (folder_of(path) / WEIGHTS).is_file():
        raise CrosscoderError(f"{path} has no {WEIGHTS}")
    return read_pair(folder_of(path) / WEIGHTS, folder_of(path) / CONFIGURATION, known, SCALES)


def _write(crosscoder: CrossCoder, path: Path) -> None:
    if crosscoder.n_checkpoints != 2 or crosscoder.activation.name != "relu":
        raise CrosscoderError(
            f"the format ckkissane holds relu crosscoders of 2 checkpoints, not {crosscoder.activation.name} of "
            f"{crosscoder.n_checkpoints}; take ctt or crosstime"
        )
    with atomic_path(path) as folder:
        folder.mkdir()
        torch.save(tensors_of(crosscoder), folder / WEIGHTS)
        write_json(folder / CONFIGURATION, settings_of(crosscoder) | {SCALES: crosscoder.scales.tolist()})


FORMAT = Format("ckkissane", f"a folder with {WEIGHTS} and {CONFIGURATION}", True, _holds, _read, _write)
