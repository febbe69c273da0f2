"""Text sources, and the documents in them: text files, JSON Lines files, and data sets of the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from crosstime.errors import CorpusError
from crosstime.suites.hub_errors import hub_errors
from tasks import files
from tasks.errors import DataError
from user_input.home import expanded
from user_input.hub_reach import hub_or_cache, why_unreachable
from user_input.nearest import similar_beside
from user_input.reason import reason

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")
HUB_PREFIX = "hf:"
TextSource = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Row = TypeVar("Row")

_HUB = re.compile(r"hf:(?P<name>[^:\[\]#]+)(:(?P<config>[^\[\]#]+))?(\[(?P<split>[^\]]+)\])?(#(?P<field>.+))?")


@dataclass(frozen=True)
class HubText:
    """A text column of a Hub data set, written ``hf:ORG/NAME[:config][split][#field]``.

    The square brackets around the split are part of the notation; config, split and field are optional:
    ``hf:monology/pile-uncopyrighted``, ``hf:wikimedia/wikipedia:20231101.en[train]#text``.
    """

    name: str
    config: str | None = None
    split: str = "train"
    field: str = "text"

    @classmethod
    def parse(cls, text: str) -> HubText:
        """Parse the notation.

        Raises:
            CorpusError: `text` does not have that form.

        Examples:
            >>> HubText.parse("hf:allenai/c4:en[validation]")
            HubText(name='allenai/c4', config='en', split='validation', field='text')
        """
        match = _HUB.fullmatch(text)
        if match is None:
            raise CorpusError(f"{text!r} is not of the form hf:ORG/NAME[:config][split][#field], e.g. hf:a/b:en[train]")
        return cls(match["name"], match["config"], match["split"] or cls.split, match["field"] or cls.field)


def read_lines(source: TextSource) -> Iterator[str]:
    """Yield the documents of a text source one by one, without the blank ones.

    Args:
        source: a ``.txt`` or ``.txt.gz`` file (UTF-8, one document per line), a ``.jsonl`` or ``.jsonl.gz`` file (its
            field ``text``), a Hub data set in the notation of `HubText` (streamed), or a list of these.

    Raises:
        CorpusError: immediately for a file that is missing or of an unknown kind; while reading for a malformed line
            (the message gives ``file:line``) or a data set that cannot be opened.

    Examples:
        >>> from itertools import islice
        >>> list(islice(read_lines("corpus/stories.txt.gz"), 2))  # doctest: +SKIP
        ['Once upon a time ...', 'The cat sat ...']
    """
    sources = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    if not sources:
        raise CorpusError("a corpus needs at least one text source, got an empty list")
    readers = [_reader(os.fspath(entry)) for entry in sources]
    return (line for reader in readers for line in reader if line.strip())


def is_streamed(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a Hub data set, which is streamed rather than held in memory."""
    return str(source).startswith(HUB_PREFIX)


def looks_like_source(item: str | os.PathLike[str]) -> bool:
    """Whether an item of a list names a text source, rather than being a document itself."""
    return isinstance(item, os.PathLike) or item.startswith(HUB_PREFIX) or item.endswith((".txt", ".gz", ".jsonl"))


def text_file(source: str | os.PathLike[str]) -> Path | None:
    """The file that a text source names, with ``~`` expanded; None for a Hub data set.

    Whoever reads a source, and whoever hashes it, finds its file here, so that both mean the same file.

    Examples:
        >>> text_file("hf:allenai/c4:en") is None
        True
        >>> text_file("corpus.txt.gz").name
        'corpus.txt.gz'
    """
    return None if is_streamed(source) else expanded(source)


def text_files(source: TextSource) -> dict[str, Path]:
    """The files that a text source names, by the names under which they are given; Hub data sets are left out.

    Examples:
        >>> list(text_files(["corpus.txt.gz", "hf:allenai/c4:en"]))
        ['corpus.txt.gz']
    """
    sources = [source] if isinstance(source, (str, os.PathLike)) else source
    files_by_name = {os.fspath(entry): text_file(entry) for entry in sources}
    return {name: path for name, path in files_by_name.items() if path is not None}


def _reader(origin: str) -> Iterator[str]:
    """The documents of one source, which is checked immediately and opened on the first document."""
    path = text_file(origin)
    if path is None:
        return _read_hub(HubText.parse(origin))
    if not path.name.endswith(SUFFIXES):
        raise CorpusError(f"cannot read {origin}: a text source ends in {', '.join(SUFFIXES)}, or starts with hf:")
    if not path.is_file():
        raise CorpusError(f"there is no text file {origin}: {similar_beside(path)}")
    return _read_json_lines(path) if ".jsonl" in path.name else _read_text(path)


def _read_text(path: Path) -> Iterator[str]:
    for number, text in _as_corpus_errors(files.lines(path)):
        if "\0" in text:
            raise CorpusError(f"{path}:{number} has a zero byte: this is no text file")
        yield text


def _read_json_lines(path: Path) -> Iterator[str]:
    for where, row in _as_corpus_errors(files.json_lines(path)):
        if "text" not in row:
            raise CorpusError(f'{where} has no field "text", only {", ".join(row) or "none"}')
        if not isinstance(row["text"], str):
            raise CorpusError(f'{where} has a "text" that is not a string')
        yield row["text"]


def _as_corpus_errors(rows: Iterator[Row]) -> Iterator[Row]:
    """Yield the rows of a data file, and raise its errors as errors of the corpus."""
    try:
        yield from rows
    except DataError as error:
        raise CorpusError(str(error)) from error


def _read_hub(text: HubText) -> Iterator[str]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        with hub_or_cache():
            rows = load_dataset(text.name, text.config, split=text.split, streaming=True)
        for row in rows:
            if text.field not in row:
                raise CorpusError(f"data set {text.name} has no field {text.field!r}, only {', '.join(row)}")
            yield str(row[text.field])
    except CorpusError:  # a ValueError as well
        raise
    except hub_errors(DatasetsError, ValueError) as error:
        raise CorpusError(
            f"cannot read data set {text.name} (config {text.config}, split {text.split}): "
            f"{why_unreachable() or reason(error)}; check the name and the connection"
        ) from error
