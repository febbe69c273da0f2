"""Our own format: the file of `CrossCoder.save`, or the folder of `CrossCoder.save_pretrained`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from crosstime.crosscoders import crosscoder_file
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import Format
from crosstime.crosscoders.exchange.source import Overrides, scales_of
from crosstime.crosscoders.hub import WEIGHTS
from crosstime.errors import RunError
from crosstime.machine.part_names import is_sharded
from crosstime.machine.tensors import read_header


def _weights(path: Path) -> Path:
    return path / WEIGHTS if path.is_dir() else path


def _holds(path: Path) -> bool:
    file = _weights(path)
    if is_sharded(file):
        return True
    if file.suffix != ".safetensors" or not file.is_file():
        return False
    try:
        _, metadata = read_header(file)
    except RunError:
        # A single safetensors file that is damaged is claimed, so that reading it explains what is wrong
        return not path.is_dir()
    return metadata.get("format") == crosscoder_file.FORMAT


def _read(path: Path, overrides: Overrides) -> CrossCoder:
    crosscoder = CrossCoder.load(_weights(path))
    origin = crosscoder.origin
    crosscoder.origin = replace(
        origin,
        suite=overrides.suite or origin.suite,
        revisions=overrides.revisions or origin.revisions,
        site=overrides.site or origin.site,
    )
    scales = scales_of(path, overrides, crosscoder.origin)
    if scales is not None:
        crosscoder.scales = scales.to(crosscoder.scales)
    return crosscoder


def _write(crosscoder: CrossCoder, path: Path) -> None:
    crosscoder.save(path)


FORMAT = Format(
    "crosstime",
    "one safetensors file with its origin as metadata",
    is_folder=False,
    holds=_holds,
    read=_read,
    write=_write,
)
