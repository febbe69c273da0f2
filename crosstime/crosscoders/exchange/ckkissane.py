"""The format of the open-source replication of crosscoder model diffing by Kissane et al.: two models, ReLU.

``cc_weights.pt`` lies next to ``cfg.json``. The weights are on the scale of training, and users multiply the published
scales into them. The format does not store the scales, so they are an argument when such a file is read (``scales=``).
We write them as an additional key of the configuration, which other readers ignore.
"""

from __future__ import annotations

from pathlib import Path

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.ctt import build_crosscoder, ctt_settings, ctt_tensors
from crosstime.crosscoders.exchange.format import FilePair, Format
from crosstime.crosscoders.exchange.source import Source, reader
from crosstime.errors import CrosscoderError

FILES = FilePair("cc_weights.pt", "cfg.json")
SCALES = "activation_scales"


def _build(source: Source) -> CrossCoder:
    return build_crosscoder(source, scales_key=SCALES)


def _write(crosscoder: CrossCoder, path: Path) -> None:
    if crosscoder.n_checkpoints != 2 or crosscoder.activation.name != "relu":
        raise CrosscoderError(
            f"the format ckkissane holds relu crosscoders of 2 checkpoints, not {crosscoder.activation.name} of "
            f"{crosscoder.n_checkpoints}; take ctt or crosstime"
        )
    FILES.write(path, ctt_tensors(crosscoder), ctt_settings(crosscoder) | {SCALES: crosscoder.scales.tolist()})


FORMAT = Format(
    "ckkissane",
    f"a folder with {FILES.weights} and {FILES.configuration}",
    is_folder=True,
    holds=FILES.holds,
    read=reader(FILES.locate, _build),
    write=_write,
)
