"""Local data files: finding and reading them, with errors that name the file and the line."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tasks.errors import DataError
from user_input.nearest import nearest, similar, similar_beside
from user_input.parse_json import MAX_LENGTH, JsonError, parse_json


def locate(path: Path, folders: Iterable[Path], stem: str, suffixes: tuple[str, ...], label: str) -> Path:
    """Find the file of a task: `path` itself if it is a file, otherwise `stem` + suffix in a folder.

    Args:
        path: A file or folder, as given by the user.
        folders: The folders to search, in this order, if `path` is a folder.
        stem: Name of the file without its suffix.
        suffixes: Allowed suffixes in order of preference, e.g. ``(".jsonl", ".jsonl.gz")``.
        label: What the stem names, for the message, e.g. ``"BLiMP paradigm"``.

    Raises:
        DataError: `path` does not exist, or no folder holds the file; the message names a similar file.
    """
    # Look for the file
    must_exist(path)
    if path.is_file():
        return path
    folders = list(folders)
    for folder in folders:
        for suffix in suffixes:
            if (folder / (stem + suffix)).is_file():
                return folder / (stem + suffix)

    # Name the files that are there instead
    present = {
        child.name.removesuffix(suffix)
        for folder in folders
        if folder.is_dir()
        for child in folder.iterdir()
        for suffix in suffixes
        if child.name.endswith(suffix)
    }
    searched = " and ".join(str(folder) for folder in folders)
    raise DataError(
        f"no file for {label} {stem!r}: looked for {stem}{' or '.join(suffixes)} in {searched}; "
        + similar(stem, present)
    )


def must_exist(path: Path) -> None:
    """Raise a `DataError` unless `path` is a file or folder; the message names a similar one in its folder."""
    if not path.exists():
        raise DataError(f"{path} does not exist: {similar_beside(path)}")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and text of every line of a UTF-8 file, which is decompressed if its name ends in ``.gz``.

    Raises:
        DataError: The file cannot be opened or decompressed, or a line is not UTF-8 or longer than `MAX_LENGTH`.
    """
    number = 0
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LENGTH + 1), b""), start=1):
                if len(line) > MAX_LENGTH:
                    raise DataError(
                        f"{path.name}:{number}: longer than the {MAX_LENGTH:,} bytes of a line that are read"
                    )
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}:{number}: not UTF-8 text: {error.reason}") from error
    except (OSError, EOFError, zlib.error) as error:
        position = f" after line {number:,}" if number else ""
        raise DataError(f"{path} cannot be read{position}: {error}") from error


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield ``("file:line", object)`` of a JSON Lines file.

    Raises:
        DataError: A line is not one JSON object.
    """
    for number, line in lines(path):
        where = f"{path.name}:{number}"
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except JsonError as error:
            raise DataError(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected one JSON object a line, found {type(row).__name__}")
        yield where, row


def tsv_rows(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield ``("file:line", row)`` of a tab-separated file with a header and quoted fields.

    Raises:
        DataError: A quote is not closed, or the number of fields in a row differs from that in the header.
    """
    reader = csv.reader((line + "\n" for _, line in lines(path)), delimiter="\t", strict=True)
    header: list[str] | None = None
    # A quoted field may span several lines: a row is named by its first line.
    first_line = 1
    while True:
        # Read a row
        where = f"{path.name}:{first_line}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{where}: not tab-separated values: {error}") from error
        if fields is None:
            return
        first_line = reader.line_num + 1

        # Compare it with the header
        if not fields:
            continue
        if header is None:
            header = fields
            continue
        if len(fields) != len(header):
            raise DataError(f"{where}: expected {len(header)} fields as in the header, found {len(fields)}")
        yield where, dict(zip(header, fields, strict=True))


SKIP = "marked to be skipped in the file"
"""Reason why a reader leaves a row out; see `is_skipped`."""


def is_skipped(row: Mapping[str, object], where: str) -> bool:
    """Whether a row says by its field ``skip`` that it is to be left out, as those of Crosscoding Through Time do.

    Raises:
        DataError: The field is neither true nor false.
    """
    value = row.get("skip")
    if value not in (None, True, False) or (isinstance(value, int | float) and not isinstance(value, bool)):
        raise DataError(f"{where}: field 'skip' must be true or false, found {value!r}")
    return bool(value)


def text_field(row: Mapping[str, object], name: str, where: str) -> str:
    """The text in a field of a row.

    Raises:
        DataError: The field is absent, empty, or holds something other than text.
    """
    if name not in row:
        raise DataError(f"{where}: no field {name!r}: {nearest(name, map(str, row))}")
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: field {name!r} must be text, found {value!r}")
    return value
