"""Text sources, and the packed token sequences made of them."""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from crosstime.errors import CorpusError
from tasks import files
from tasks.errors import DataError
from user_input.first_line import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")
Row = TypeVar("Row")
TextSource = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_HUB = re.compile(r"hf:(?P<name>[^:\[\]#]+)(:(?P<config>[^\[\]#]+))?(\[(?P<split>[^\]]+)\])?(#(?P<field>.+))?")
_TOKENIZED_AT_ONCE = 256


@dataclass(frozen=True)
class HubText:
    """A text column of a Hub data set, written ``hf:ORG/NAME[:config][split][#field]``.

    The square brackets around the split are written; config, split and field may be left out:
    ``hf:monology/pile-uncopyrighted``, ``hf:wikimedia/wikipedia:20231101.en[train]#text``.
    """

    name: str
    config: str | None = None
    split: str = "train"
    field: str = "text"

    @classmethod
    def parse(cls, text: str) -> HubText:
        """Read the written form.

        Raises:
            CorpusError: when `text` is not of that form.

        Examples:
            >>> HubText.parse("hf:allenai/c4:en[validation]")
            HubText(name='allenai/c4', config='en', split='validation', field='text')
        """
        match = _HUB.fullmatch(text)
        if match is None:
            raise CorpusError(f"{text!r} is not of the form hf:ORG/NAME[:config][split][#field], e.g. hf:a/b:en[train]")
        return cls(match["name"], match["config"], match["split"] or cls.split, match["field"] or cls.field)


@dataclass(frozen=True)
class TextSample:
    """How much of a text is read: its first sequences.

    Attributes:
        n_sequences: number of packed sequences, at least 1.
        sequence_length: tokens of one sequence, at least 2.

    Raises:
        CorpusError: fewer sequences or tokens than that.

    Examples:
        >>> TextSample(n_sequences=16).sequence_length
        64
    """

    n_sequences: int = 128
    sequence_length: int = 64

    def __post_init__(self) -> None:
        if self.n_sequences < 1 or self.sequence_length < 2:
            raise CorpusError(
                f"reading needs at least one sequence of two tokens, not {self.n_sequences} of {self.sequence_length}"
            )


def read_lines(source: TextSource) -> Iterator[str]:
    """Yield the documents of a text source, one by one, blank ones left out.

    Args:
        source: a ``.txt`` or ``.txt.gz`` file (UTF-8, a document a line), a ``.jsonl`` or ``.jsonl.gz`` file
            (its field ``text``), a Hub data set as `HubText` reads it (streamed), or a list of these.

    Raises:
        CorpusError: at once for a file that is missing or of another kind; while reading for a broken line
            (the sentence says ``file:line``) or a data set that cannot be opened.

    Examples:
        >>> from itertools import islice
        >>> list(islice(read_lines("corpus/stories.txt.gz"), 2))  # doctest: +SKIP
        ['Once upon a time ...', 'The cat sat ...']
    """
    sources = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    if not sources:
        raise CorpusError("a corpus needs at least one text source, got an empty list")
    readers = [_reader(os.fspath(each)) for each in sources]
    return (line for read, origin in readers for line in read(origin) if line.strip())


def documents(corpus: TextSource | Iterable[str]) -> tuple[Iterable[str], bool]:
    """A corpus as documents, and whether it is small enough to be kept, shuffled and read again.

    A string or path names a source; a list of strings that all exist as files does too; any other iterable
    is the documents themselves. Only Hub data sets are streamed.
    """
    if isinstance(corpus, str | os.PathLike):
        return read_lines(corpus), not str(corpus).startswith("hf:")
    if isinstance(corpus, Sequence) and corpus and all(_names_source(item) for item in corpus):
        return read_lines(corpus), not any(str(item).startswith("hf:") for item in corpus)
    return corpus, True


def sequences(
    lines: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    *,
    seed: int = 0,
    repeat: bool = False,
    shuffle: bool = False,
) -> Iterator[Int[Tensor, " S"]]:
    """Pack documents into token sequences of one length, with the end token after each document.

    Documents are cut where a sequence ends and go on in the next one; what is left at the end and does
    not fill a sequence is dropped, or leads over into the next round when `repeat` is on.

    Args:
        lines: documents. They are kept in memory only when `repeat` or `shuffle` is on.
        tokenizer: turns text into ids; no special tokens are added but its eos token.
        length: tokens of a sequence, S.
        seed: of the random order, when `shuffle` is on.
        repeat: begin again when the documents are used up, without end.
        shuffle: take the documents in random order, another one in each round.

    Yields:
        Token ids, shape ``(S,)``, int64. The same arguments give the same sequences.

    Raises:
        CorpusError: `length` is not positive, the tokenizer has no eos token, or (while reading) the
            documents do not fill one sequence.
    """
    if length < 1:
        raise CorpusError(f"the length of a sequence must be at least 1 token, not {length}")
    if tokenizer.eos_token_id is None:
        raise CorpusError("the tokenizer has no eos token to put between documents")
    return _pack(_documents(lines, seed, repeat, shuffle), tokenizer, length)


def corpus_hash(lines: Iterable[str]) -> str:
    """Sixteen hex digits of the documents and their order, for caches and records.

    Examples:
        >>> corpus_hash(["ab", "c"]) != corpus_hash(["a", "bc"])
        True
    """
    digest = hashlib.sha256()
    for line in lines:
        content = line.encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]


def _names_source(item: str | os.PathLike[str]) -> bool:
    return isinstance(item, os.PathLike) or item.startswith("hf:") or item.endswith((".txt", ".gz", ".jsonl"))


def _reader(origin: str) -> tuple[Any, Any]:
    if origin.startswith("hf:"):
        return _read_hub, HubText.parse(origin)
    path = Path(origin).expanduser()
    if not path.name.endswith(SUFFIXES):
        raise CorpusError(f"cannot read {origin}: a text source ends in {', '.join(SUFFIXES)}, or starts with hf:")
    if not path.is_file():
        raise CorpusError(f"there is no text file {origin}")
    return (_read_json_lines if ".jsonl" in path.name else _read_text), path


def _read_text(path: Path) -> Iterator[str]:
    for number, text in _ours(files.lines(path)):
        if "\0" in text:
            raise CorpusError(f"{path}:{number} has a zero byte: this is no text file")
        yield text


def _read_json_lines(path: Path) -> Iterator[str]:
    for where, row in _ours(files.json_lines(path)):
        if "text" not in row:
            raise CorpusError(f'{where} has no field "text", only {", ".join(row) or "none"}')
        if not isinstance(row["text"], str):
            raise CorpusError(f'{where} has a "text" that is not a string')
        yield row["text"]


def _ours(rows: Iterator[Row]) -> Iterator[Row]:
    """Rows of a data file, with what is wrong with the file as an error about the text."""
    try:
        yield from rows
    except DataError as error:
        raise CorpusError(str(error)) from error


def _read_hub(text: HubText) -> Iterator[str]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        rows = load_dataset(text.name, text.config, split=text.split, streaming=True)
        for row in rows:
            if text.field not in row:
                raise CorpusError(f"data set {text.name} has no field {text.field!r}, only {', '.join(row)}")
            yield str(row[text.field])
    except (DatasetsError, OSError, ValueError) as error:
        if isinstance(error, CorpusError):  # itself a ValueError
            raise
        raise CorpusError(
            f"cannot read data set {text.name} (config {text.config}, split {text.split}): {first_line(error)}; "
            "check the name and the connection"
        ) from error


def _documents(lines: Iterable[str], seed: int, repeat: bool, shuffle: bool) -> Iterator[str]:
    if not (repeat or shuffle):
        yield from lines
        return
    kept = list(lines)
    order = random.Random(seed)
    while kept:
        if shuffle:
            order.shuffle(kept)
        yield from kept
        if not repeat:
            return


def _pack(documents: Iterator[str], tokenizer: PreTrainedTokenizerBase, length: int) -> Iterator[Tensor]:
    waiting: list[int] = []
    seen = filled = 0
    for batch in _batches(documents):
        for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
            waiting += ids
            waiting.append(tokenizer.eos_token_id)
            seen += len(ids) + 1
        whole = len(waiting) // length * length
        yield from torch.tensor(waiting[:whole], dtype=torch.int64).reshape(-1, length)
        filled += whole
        del waiting[:whole]
    if not seen:
        raise CorpusError("the text is empty: it has no document that is not blank")
    if not filled:
        raise CorpusError(f"the text has {seen} tokens, too few for one sequence of {length}")


def _batches(documents: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _TOKENIZED_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
