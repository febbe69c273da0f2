"""JSON files and CSV tables, written atomically: a file is either complete or absent."""

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
from typing import TYPE_CHECKING, Any, Literal

from crosstime.errors import RunError
from user_input.not_utf8 import not_utf8
from user_input.parse_json import MAX_LENGTH, JsonError, parse_json
from user_input.reason import reason

if TYPE_CHECKING:
    import pandas as pd

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
"""Errors that mean that the disk accepts no more data."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` to write a file or a folder at, and rename it at the end.

    Readers see the old content or the new, never a part of it. If the block raises, the temporary is removed and
    `path` stays as it was. Missing parent folders are created, and a folder that exists at `path` is replaced as a
    whole. The temporary has the suffix of `path`, for writers that choose their format by the suffix.

    Raises:
        RunError: the block wrote nothing, `path` cannot be written to, or the disk is full.

    Examples:
        >>> with atomic_path("out/notes.txt") as temporary:  # doctest: +SKIP
        ...     temporary.write_text("complete or absent")
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
        # Other errors of the system belong to the caller's block, unless they concern the temporary
        if error.errno not in _DISK_ERRORS and not str(error.filename or "").startswith(str(temporary)):
            raise
        raise RunError(f"cannot write {target}: {error.strerror}; nothing of it is left") from error
    finally:
        _remove(temporary)


def is_plain_name(name: str) -> bool:
    """Whether a name from a file stands for an entry of its folder, and cannot lead anywhere else.

    Examples:
        >>> [is_plain_name(name) for name in ("step64", "..", "a/b", "")]
        [True, False, False, False]
    """
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as UTF-8 JSON; dataclasses, paths and numpy numbers are converted, and NaN becomes null.

    Raises:
        RunError: `value` holds something that JSON cannot represent, such as an infinity or a tensor.
    """
    try:
        text = json.dumps(_jsonable(value), indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RunError(f"cannot write {path} as JSON: {error}") from error
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a UTF-8 JSON file within the limits of `user_input.parse_json.parse_json`.

    Raises:
        RunError: the file is missing, unreadable, or not JSON.
    """
    with reading_errors(path, "JSON file", JsonError):
        if Path(path).stat().st_size > MAX_LENGTH:
            raise JsonError(f"longer than the {MAX_LENGTH:,} bytes that are read")
        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise JsonError(not_utf8(error)) from error
        return parse_json(text, is_file=True)


def write_table(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table as CSV, without its index; `read_table` restores every float64 bit for bit.

    NaN is written as an empty cell. An empty string looks the same, and is read back as NaN.
    """
    texts = table.select_dtypes(exclude=["number", "bool"])
    # A reader takes a carriage return for the end of a row unless it is quoted, which pandas does not do by itself
    has_returns = any(texts[column].map(lambda text: "\r" in str(text)).any() for column in texts)
    quoting: Literal[0, 1] = csv.QUOTE_ALL if has_returns else csv.QUOTE_MINIMAL
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", quoting=quoting)


def read_table(path: str | os.PathLike[str], *, dtypes: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Read a CSV table; only empty cells become NaN, so that the strings "NA" and "null" survive.

    Args:
        path: the CSV file.
        dtypes: dtype by column, for columns of text that looks like numbers (``{"token": str}``).

    Raises:
        RunError: the file is missing, empty, or not a table, or a column does not fit its dtype.
    """
    import pandas as pd

    # Since 3.1, pandas always reads floats exactly, and warns about the option that used to ask for it
    version = tuple(int(part) for part in pd.__version__.split(".")[:2])
    exact_floats: dict[str, Any] = {} if version >= (3, 1) else {"float_precision": "round_trip"}
    with reading_errors(path, "CSV table", ValueError):
        return pd.read_csv(
            path,
            dtype=dict(dtypes) if dtypes else None,
            **exact_floats,
            keep_default_na=False,
            na_values=[""],
        )


@contextmanager
def reading_errors(path: str | os.PathLike[str], kind: str, *invalid: type[Exception]) -> Iterator[None]:
    """Turn any error of the block, which reads a file, into one sentence that names the file.

    Args:
        path: the file.
        kind: what the file should be, for the sentence.
        invalid: errors that the block raises for content that is damaged or of another kind.

    Raises:
        RunError: the file is missing, invalid, or cannot be read.
    """
    if not Path(path).is_file():
        raise RunError(f"there is no {kind} at {path}")
    try:
        yield
    except invalid as error:
        raise RunError(f"{path} is not a valid {kind}: {reason(error)}") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error


def _jsonable(value: Any) -> Any:
    import numpy as np

    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return str(value) if isinstance(value, os.PathLike) else value


def _replace(temporary: Path, target: Path) -> None:
    """Sync `temporary` to the disk and rename it to `target`, replacing what exists there."""
    retired = target.with_name(f".old-{secrets.token_hex(4)}-{target.name}")
    try:
        # Write the content to the disk before the name points to it
        for path in (temporary, *temporary.rglob("*")) if temporary.is_dir() else (temporary,):
            _sync(path)

        # A folder cannot be renamed onto a folder that is not empty, so the old one is moved away first
        if target.is_dir():
            target.rename(retired)
        try:
            temporary.replace(target)
        except OSError:
            if retired.exists():
                retired.rename(target)
            raise

        # Write the new name to the disk
        _sync(target.parent)
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror}") from error
    finally:
        if target.exists():
            _remove(retired)


def _sync(path: Path) -> None:
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
