"""A corpus: documents of text, and the token sequences that are packed from them."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Int
from torch import Tensor

from crosstime.errors import CorpusError
from crosstime.suites.read_lines import TextSource, is_streamed, looks_like_source, read_lines

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TOKENIZED_TOGETHER = 256
"""Documents in one call of the tokenizer."""


def documents(corpus: TextSource | Iterable[str]) -> tuple[Iterable[str], bool]:
    """The documents of a corpus, and whether they may be held in memory, to be shuffled and read repeatedly.

    Args:
        corpus: a text source (a string, a path, or a list of which every item names a source), or the documents
            themselves. Only Hub data sets are streamed.

    Examples:
        >>> documents(["the cat sleeps", "the cats sleep"])
        (['the cat sleeps', 'the cats sleep'], True)
    """
    if isinstance(corpus, str | os.PathLike):
        return read_lines(corpus), not is_streamed(corpus)
    if isinstance(corpus, Sequence) and corpus and all(looks_like_source(item) for item in corpus):
        return read_lines(corpus), not any(is_streamed(item) for item in corpus)
    # The items of a list that do not all name sources are documents.
    return cast(Iterable[str], corpus), True


def sequences(
    lines: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    *,
    start: Sequence[int] = (),
    seed: int = 0,
    repeat: bool = False,
    shuffle: bool = False,
) -> Iterator[Int[Tensor, " S"]]:
    """Pack documents into token sequences of one length, with the end token after each document.

    A document that does not fit into a sequence continues in the next one. Tokens at the end of the text that do not
    fill a sequence are dropped, or continue with the first document when `repeat` is set.

    With start tokens, every document begins with them, and so does every sequence, also one that continues a document:
    a model that was trained with a start token attends to it at the first position, and no prompt is without it.
    Documents that begin with the EOS token have none at their end, where it would stand twice.

    Args:
        lines: documents; held in memory only when `repeat` or `shuffle` is set.
        tokenizer: turns text into ids; no special token is added except its EOS token.
        length: tokens of a sequence, S.
        start: ids of the start tokens; see `crosstime.suites.text_start`.
        seed: seed of the random order, with `shuffle`.
        repeat: start again when the documents are exhausted, endlessly.
        shuffle: take the documents in random order, a new one in each round.

    Yields:
        Token ids of shape ``(S,)``, int64. The same arguments give the same sequences.

    Raises:
        CorpusError: `length` is not larger than the number of start tokens, the tokenizer has no EOS token, or (while
            reading) the documents do not fill one sequence.
    """
    if length <= len(start):
        after = f" after {len(start)} of the start" if start else ""
        raise CorpusError(f"the length of a sequence must be at least 1 token{after}, not {length}")
    if tokenizer.eos_token_id is None:
        raise CorpusError("the tokenizer has no eos token to put between documents")
    return _pack(_in_order(lines, seed, repeat, shuffle), tokenizer, length, list(start))


def corpus_hash(lines: Iterable[str]) -> str:
    """Hash of the documents and their order, 16 hexadecimal digits, for caches and records.

    Examples:
        >>> corpus_hash(["ab", "c"]) != corpus_hash(["a", "bc"])
        True
    """
    digest = hashlib.sha256()
    for line in lines:
        content = line.encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]


def _in_order(lines: Iterable[str], seed: int, repeat: bool, shuffle: bool) -> Iterator[str]:
    """Yield the documents in the order in which they are packed."""
    if not (repeat or shuffle):
        yield from lines
        return
    documents = list(lines)
    generator = random.Random(seed)
    while documents:
        if shuffle:
            generator.shuffle(documents)
        yield from documents
        if not repeat:
            return


def _pack(
    documents: Iterator[str], tokenizer: PreTrainedTokenizerBase, length: int, start: list[int]
) -> Iterator[Int[Tensor, " S"]]:
    end = [] if start[:1] == [tokenizer.eos_token_id] else [tokenizer.eos_token_id]
    remainder: list[int] = []
    n_tokens, any_packed = 0, False
    for batch in _batches(documents):
        # Append the tokens of every document, between its start tokens and its end token
        for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
            document = start + ids + end
            remainder += document
            n_tokens += len(document)

        # Cut off the sequences that are complete
        first = 0
        while True:
            # A sequence that begins with a document has its start tokens already
            head = [] if remainder[first : first + len(start)] == start else start
            after = first + length - len(head)
            if after > len(remainder):
                break
            yield torch.tensor(head + remainder[first:after], dtype=torch.int64)
            first, any_packed = after, True
        del remainder[:first]

    if not n_tokens:
        raise CorpusError("the text is empty: it has no document that is not blank")
    if not any_packed:
        raise CorpusError(f"the text has {n_tokens} tokens, too few for one sequence of {length}")


def _batches(documents: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(documents, _TOKENIZED_TOGETHER)):
        yield batch
