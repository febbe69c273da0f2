"""Whether a file of weights is whole, as far as its first and last bytes tell."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from user_input.reason import reason

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_BUFFERS = ("inv_freq", "position_ids")
"""Ends of the names of tensors that are not trained."""
_LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors header; longer ones are refused by safetensors itself."""


class UnusableWeightsError(ValueError):
    """Weight files that are missing, incomplete or of no known format; the message is the reason for a sentence."""


def check_weight_file(path: Path, name: str, size: int | None = None) -> None:
    """Refuse a file that is empty, incomplete, or no weights at all, without reading its tensors.

    Args:
        path: where it is.
        name: what it is called in the message.
        size: how many bytes it has on the Hub, if that is known.

    Raises:
        UnusableWeightsError: it cannot be used; the message names it.
        OSError: it cannot be read.
    """
    # Refuse what is no file of weights
    stored = path.stat().st_size
    with path.open("rb") as file:
        beginning = file.read(64)
    if not beginning:
        raise UnusableWeightsError(f"{name} is empty")
    if beginning.startswith(_LFS_POINTER):
        raise UnusableWeightsError(
            f"{name} is a pointer of Git LFS and not the file itself: fetch it with git lfs pull"
        )
    if size is not None and stored != size:
        raise UnusableWeightsError(f"{name} has {stored:,} bytes here and {size:,} on the Hub: download it again")

    # Compare its length with what it says itself
    if name.endswith(".safetensors"):
        _check_safetensors(path, name, stored)
    elif beginning.startswith(_ZIP):
        if not zipfile.is_zipfile(path):
            raise UnusableWeightsError(f"{name} is incomplete: its end is missing, as after half a download")
    elif not beginning.startswith(_PICKLE):
        raise UnusableWeightsError(f"{name} is not a file that torch.save wrote")


def holds_trained_weights(path: Path | None) -> bool:
    """Whether a file has a tensor that training changes.

    Norms and biases before the first step, whose values are all equal, masks, positions and the frequencies of rotary
    embeddings are the same in every checkpoint, and may fill a small shard. Of a file that is not here, or not in the
    format of safetensors, it is assumed.
    """
    if path is None or path.suffix != ".safetensors":
        return True
    import torch

    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (safe_open is not a mapping)
            tensor = file.get_tensor(name)
            is_mask = tensor.dtype == torch.bool or (tensor.dim() == 4 and tensor.shape[:2] == (1, 1))
            if tensor.numel() < 2 or is_mask or name.endswith(_BUFFERS):
                continue
            # Not every comparison exists for numbers of 8 bits
            values = tensor if tensor.is_complex() else tensor.float()
            if bool((values != values.flatten()[0]).any()):
                return True
    return False


def _check_safetensors(path: Path, name: str, stored: int) -> None:
    # Compare the end of the last tensor with the size of the file
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if stored >= 8 and length <= min(_LARGEST_HEADER, stored - 8) else None
    if stored < 8 or (header is None and length <= _LARGEST_HEADER):
        raise UnusableWeightsError(f"{name} is incomplete: it ends within its header, as after half a download")
    if header is not None and (end := _end_of_tensors(header)) is not None and 8 + length + end > stored:
        raise UnusableWeightsError(
            f"{name} is incomplete: it has {stored:,} of {8 + length + end:,} bytes, as after half a download"
        )

    # Leave the rest of the header to safetensors
    try:
        with safe_open(path, framework="pt"):
            return
    except SafetensorError as error:
        raise UnusableWeightsError(f"{name} is not a safetensors file: {reason(error)}") from error


def _end_of_tensors(header: bytes) -> int | None:
    """The largest offset that a header names; None if it is not one."""
    try:
        entries = json.loads(header)
        return max(int(entry["data_offsets"][1]) for name, entry in entries.items() if name != "__metadata__")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
