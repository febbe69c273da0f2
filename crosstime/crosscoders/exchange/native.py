"""Our own format: `CrossCoder.save`'s file, or the folder of `CrossCoder.save_pretrained`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from crosstime.crosscoders import crosscoder_file
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import Format, Known, scales_from
from crosstime.crosscoders.hub import WEIGHTS


def _file(path: Path) -> Path:
    return path / WEIGHTS if path.is_dir() else path


def _holds(path: Path) -> bool:
    file = _file(path)
    if file.suffix != ".safetensors" or not file.is_file():
        return False
    try:
        with safe_open(file, framework="pt") as opened:
            return (opened.metadata() or {}).get("format") == crosscoder_file.FORMAT
    except (SafetensorError, OSError):
        # Whole or not, a single safetensors file is ours to read, and to say what is wrong with it.
        return not path.is_dir()


def _read(path: Path, known: Known) -> CrossCoder:
    found = CrossCoder.load(_file(path))
    origin = found.origin
    found.origin = replace(
        origin, suite=known.suite or origin.suite, revisions=known.revisions or origin.revisions,
        site=known.site or origin.site,
    )  # fmt: skip
    scales = scales_from(path, known, found.n_checkpoints)
    if scales is not None:
        found.scales = scales.to(found.scales)
    return found


def _write(crosscoder: CrossCoder, path: Path) -> None:
    crosscoder.save(path)


FORMAT = Format("crosstime", "one safetensors file with its origin as metadata", False, _holds, _read, _write)
