"""Files that are either whole or absent: JSON, CSV tables and safetensors, written atomically."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from crosstime.errors import RunError
from user_input.first_line import first_line
from user_input.parse_json import LONGEST, JsonError, parse_json

# From 3.1 on pandas always reads floats exactly, and warns about the option that used to ask for it.
_PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])
_EXACT_FLOATS: dict[str, Any] = {} if _PANDAS >= (3, 1) else {"float_precision": "round_trip"}
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
"""What a disk says when it takes no more. Other errors of the system are the caller's, unless about the temporary."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lend a temporary sibling of `path` to write a file or a folder at, and rename it to `path` at the end.

    Readers see the old content or the new, never a part. When the block raises, the temporary is removed
    and `path` is as it was. Missing parent folders are made. The temporary keeps the suffix of `path`, for
    writers that choose their format by it. A folder already at `path` is replaced as a whole.

    Raises:
        RunError: when the block wrote nothing, `path` cannot be written to, or the disk is full.

    Examples:
        >>> with atomic_path("out/notes.txt") as temporary:
        ...     temporary.write_text("whole or absent")
    """
    target = Path(path)
    temporary = target.with_name(f".tmp-{secrets.token_hex(4)}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {target.parent}: {error.strerror}") from error
    try:
        yield temporary
        if not temporary.exists():
            raise RunError(f"nothing was written for {target}")
        _replace(temporary, target)
    except OSError as error:
        if error.errno not in _DISK and not str(error.filename or "").startswith(str(temporary)):
            raise
        raise RunError(f"cannot write {target}: {error.strerror}; nothing of it is left") from error
    finally:
        _remove(temporary)


def is_plain_name(name: str) -> bool:
    """Whether a name from a file stands for something in a folder, and leads nowhere else.

    Examples:
        >>> [is_plain_name(name) for name in ("step64", "..", "a/b", "")]
        [True, False, False, False]
    """
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as UTF-8 JSON; dataclasses, paths and numpy numbers are taken, NaN becomes null.

    Raises:
        RunError: when `value` holds something JSON has no form for (an infinity, a tensor, ...).
    """
    try:
        text = json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RunError(f"cannot write {path} as JSON: {error}") from error
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a UTF-8 JSON file.

    Raises:
        RunError: when the file is missing, unreadable or not JSON (`user_input.parse_json.parse_json`).
    """
    with _reading(path, "JSON", JsonError, UnicodeDecodeError):
        if Path(path).stat().st_size > LONGEST:
            raise JsonError(f"longer than the {LONGEST:,} bytes that are read")
        return parse_json(Path(path).read_text(encoding="utf-8"))


def write_table(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table as CSV, without its index; `read_table` gives every float64 back bit for bit.

    NaN is an empty cell. An empty string cannot be told from NaN and is read back as NaN.
    """
    texts = table.select_dtypes(exclude=["number", "bool"])
    # A carriage return ends a row for the reader unless it is quoted, which the writer does not do by itself.
    returns = any(texts[column].map(lambda text: "\r" in str(text)).any() for column in texts)
    quoting = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", quoting=quoting)


def read_table(path: str | os.PathLike[str], *, dtypes: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Read a CSV table; only empty cells are NaN, so that the strings "NA" and "null" survive.

    Args:
        path: the CSV file.
        dtypes: column name -> dtype, for columns whose text would pass for numbers (``{"token": str}``).

    Raises:
        RunError: when the file is missing, empty or not a table, or a column does not fit its dtype.
    """
    with _reading(path, "CSV table", ValueError):
        return pd.read_csv(
            path,
            dtype=dict(dtypes) if dtypes else None,
            **_EXACT_FLOATS,
            keep_default_na=False,
            na_values=[""],
        )


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Shaped[Tensor, ...]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named tensors and a dictionary of strings as one safetensors file.

    Values, dtypes and shapes are kept; device, gradient and shared storage are not.

    Raises:
        RunError: it cannot be written: a full disk, a missing right; nothing is left of it.
    """
    owned: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        # safetensors refuses views and twins of one storage, which to the caller are plain tensors.
        if plain.untyped_storage().nbytes() != plain.nbytes or plain.data_ptr() in storages:
            plain = plain.clone()
        storages.add(plain.data_ptr())
        owned[name] = plain
    with atomic_path(path) as temporary:
        try:
            save_file(owned, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:
            raise RunError(f"cannot write {Path(path)}: {error}; nothing of it is left") from error
        # safetensors writes for the owner's eyes only, unlike every other file here.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)


def read_tensors(
    path: str | os.PathLike[str], *, device: str | torch.device = "cpu"
) -> tuple[dict[str, Shaped[Tensor, ...]], dict[str, str]]:
    """Read a safetensors file: the tensors by name, and the strings stored with them.

    Raises:
        RunError: when the file is missing, cut short or not a safetensors file.
    """
    with (
        _reading(path, "safetensors file", SafetensorError),
        safe_open(Path(path), framework="pt", device=str(device)) as file,
    ):
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


@contextmanager
def _reading(path: str | os.PathLike[str], kind: str, *broken: type[Exception]) -> Iterator[None]:
    if not Path(path).is_file():
        raise RunError(f"there is no {kind} at {path}")
    try:
        yield
    except broken as error:
        raise RunError(f"{path} is not a whole {kind}: {first_line(error)}") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, os.PathLike) else value


def _replace(temporary: Path, target: Path) -> None:
    """Flush `temporary` to the disk and give it the name `target`, whatever stood there."""
    retired = target.with_name(f".old-{secrets.token_hex(4)}-{target.name}")
    try:
        for path in (temporary, *temporary.rglob("*")) if temporary.is_dir() else (temporary,):
            _flush(path)
        if target.is_dir():
            # A rename cannot land on a folder that has content; the old one steps aside first.
            target.rename(retired)
        try:
            temporary.replace(target)
        except OSError:
            if retired.exists():
                retired.rename(target)
            raise
        _flush(target.parent)
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror}") from error
    finally:
        if target.exists():
            _remove(retired)


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
