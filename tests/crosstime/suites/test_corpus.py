"""Token sequences packed from documents, against a list of all tokens that is cut by hand."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

import pytest
import torch

from crosstime.errors import CorpusError
from crosstime.suites.corpus import corpus_hash, sequences
from crosstime.suites.read_lines import read_lines
from crosstime.suites.text_sample import TextSample
from crosstime.suites.train_tokenizer import train_tokenizer

DOCUMENTS = ["the cat sat .", "the dogs ran far away .", "é ☃ naïve"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(DOCUMENTS * 3, 300)


def by_hand(documents: list[str], tokenizer, length: int) -> list[list[int]]:
    stream = list(chain.from_iterable([*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in documents))
    return [stream[start : start + length] for start in range(0, len(stream) - length + 1, length)]


@pytest.mark.parametrize("length", [1, 5, 16, 64])
def test_sequences_are_the_documents_joined_by_eos_and_cut(tokenizer, length: int):
    documents = DOCUMENTS * 200
    packed = list(sequences(documents, tokenizer, length))
    assert all(ids.dtype == torch.int64 and ids.shape == (length,) for ids in packed)
    assert [ids.tolist() for ids in packed] == by_hand(documents, tokenizer, length)


def test_repeat_goes_on_as_if_the_text_were_written_again(tokenizer):
    packed = list(islice(sequences(DOCUMENTS, tokenizer, 7, repeat=True), 50))
    assert [ids.tolist() for ids in packed] == by_hand(DOCUMENTS * 100, tokenizer, 7)[:50]


def test_shuffle_is_a_permutation_set_by_the_seed(tokenizer):
    documents = [f"document {number}" for number in range(100)]

    def texts(**options) -> list[str]:
        stream = torch.cat(list(sequences(documents, tokenizer, 1, **options))).tolist()
        return tokenizer.decode(stream).split("<|endoftext|>")[:-1]

    shuffled = texts(shuffle=True, seed=1)
    assert shuffled == texts(shuffle=True, seed=1)
    assert shuffled != documents
    assert sorted(shuffled) == sorted(documents)
    assert shuffled != texts(shuffle=True, seed=2)
    assert texts(seed=1) == documents


def test_impossible_lengths_and_short_texts_are_refused(tokenizer):
    with pytest.raises(CorpusError, match="at least 1 token, not 0"):
        sequences(DOCUMENTS, tokenizer, 0)
    total = len(by_hand(DOCUMENTS, tokenizer, 1))
    assert len(list(sequences(DOCUMENTS, tokenizer, total))) == 1
    with pytest.raises(CorpusError, match=f"has {total} tokens, too few for one sequence of {total + 1}"):
        list(sequences(DOCUMENTS, tokenizer, total + 1))
    with pytest.raises(CorpusError, match="the text is empty"):
        list(sequences([], tokenizer, 4, repeat=True))


def test_a_file_of_blank_lines_is_said_to_be_empty(tokenizer, tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\n \n")
    with pytest.raises(CorpusError, match="the text is empty: it has no document"):
        list(sequences(read_lines(path), tokenizer, 4))


def test_a_tokenizer_without_eos_is_refused(tokenizer):
    class Endless:
        eos_token_id = None

    with pytest.raises(CorpusError, match="no eos token"):
        sequences(DOCUMENTS, Endless(), 4)


def test_the_hash_tells_borders_and_order_apart():
    hashes = [corpus_hash(lines) for lines in ([], [""], ["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"])]
    assert len(set(hashes)) == len(hashes)
    assert corpus_hash(iter(["ab", "c"])) == hashes[2]


def test_a_sample_is_the_first_sequences_of_the_text(tokenizer):
    packed = by_hand(DOCUMENTS * 20, tokenizer, 7)
    assert [list(ids) for ids in TextSample(5, 7).read(DOCUMENTS * 20, tokenizer).ids] == packed[:5]
    assert len(TextSample(10_000, 7).read(DOCUMENTS * 20, tokenizer)) == len(packed)


@pytest.mark.parametrize("numbers", [(0, 8), (4, 1)])
def test_a_sample_without_a_token_to_predict_is_refused(numbers: tuple[int, int]):
    with pytest.raises(CorpusError, match="at least one sequence of two tokens"):
        TextSample(*numbers)
