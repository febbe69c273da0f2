from __future__ import annotations

import gzip
import json
from itertools import chain, islice
from pathlib import Path

import pytest
import torch

from crosstime.errors import CorpusError
from crosstime.suites.corpus import HubText, corpus_hash, read_lines, sequences
from crosstime.suites.tiny import train_tokenizer

LINES = ["the cat sat .", "", "the dogs ran far away .", "é ☃ naïve"]
TEXT = "\n".join(LINES) + "\n"
DOCUMENTS = [line for line in LINES if line]
CORPUS = Path(__file__).parents[4] / "shared" / "data" / "corpus"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(DOCUMENTS * 3, 300)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_text_files_are_read_a_document_a_line_without_blank_ones(tmp_path: Path, name: str, newline: str):
    path = write(tmp_path / name, TEXT.replace("\n", newline).encode())
    assert list(read_lines(path)) == DOCUMENTS
    assert list(read_lines(str(path))) == DOCUMENTS


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_give_their_text_field(tmp_path: Path, name: str):
    rows = "\n".join(json.dumps({"id": 1, "text": line}) for line in LINES)
    assert list(read_lines(write(tmp_path / name, f"{rows}\n\n".encode()))) == DOCUMENTS


def test_several_sources_follow_each_other(tmp_path: Path):
    one = write(tmp_path / "a.txt", b"one\n")
    two = write(tmp_path / "b.jsonl", b'{"text": "two"}\n')
    assert list(read_lines([two, str(one)])) == ["two", "one"]


def test_missing_files_and_other_kinds_are_refused_before_reading(tmp_path: Path):
    good = write(tmp_path / "a.txt", b"one\n")
    with pytest.raises(CorpusError, match=r"there is no text file .*gone\.txt"):
        read_lines([good, tmp_path / "gone.txt"])
    with pytest.raises(CorpusError, match=r"ends in \.txt, \.txt\.gz, \.jsonl, \.jsonl\.gz"):
        read_lines(write(tmp_path / "a.csv", b"x"))
    with pytest.raises(CorpusError, match="empty list"):
        read_lines([])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\n\xff\xfe\n", r"a\.txt:2: not UTF-8"),
        ("a.jsonl", b'{"text": "good"}\n\n{"text": \n', r"a\.jsonl:3: not JSON: Expecting value"),
        ("a.jsonl", b'{"words": "good", "id": 1}\n', r'a\.jsonl:1 has no field "text", only words, id'),
        ("a.jsonl", b"{}\n", r'a\.jsonl:1 has no field "text", only none'),
        ("a.txt", b"good\n\x7fELF\x00\x01\n", r"a\.txt:2 has a zero byte: this is no text file"),
        ("a.txt", gzip.compress(b"good\n", mtime=0), r"a\.txt:1: not UTF-8"),
        ("a.jsonl", b'"text"\n', r"a\.jsonl:1: expected one JSON object a line, found str"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1: expected one JSON object a line, found list"),
        ("a.jsonl", b'{"text": 3}\n', r'a\.jsonl:1 has a "text" that is not a string'),
    ],
)
def test_broken_lines_are_named_by_file_and_line(tmp_path: Path, name: str, content: bytes, message: str):
    with pytest.raises(CorpusError, match=message):
        list(read_lines(write(tmp_path / name, content)))


def test_a_gzip_file_cut_short_is_named_by_line(tmp_path: Path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(TEXT.encode() * 1000)[:-20])
    with pytest.raises(CorpusError, match=r"a\.txt\.gz cannot be read after line [\d,]+"):
        list(read_lines(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:org/name", HubText("org/name")),
        ("hf:org/name:en", HubText("org/name", "en")),
        ("hf:org/name[test]", HubText("org/name", None, "test")),
        ("hf:org/name:en[train]#content", HubText("org/name", "en", "train", "content")),
        ("hf:org/name#content", HubText("org/name", field="content")),
    ],
)
def test_hub_sources_are_read_as_written(text: str, expected: HubText):
    assert HubText.parse(text) == expected


def test_a_malformed_hub_source_shows_the_form():
    with pytest.raises(CorpusError, match="is not of the form hf:ORG/NAME"):
        read_lines("hf:")


class FakeHub:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows):
        self.calls = []
        self.rows = rows
        monkeypatch.setattr("datasets.load_dataset", self)

    def __call__(self, *arguments, **options):
        self.calls.append((arguments, options))
        if isinstance(self.rows, Exception):
            raise self.rows
        return iter(self.rows)


def test_hub_data_sets_are_streamed(monkeypatch):
    endless = ({"content": f"row {number}"} for number in iter(int, 1))
    hub = FakeHub(monkeypatch, endless)
    assert list(islice(read_lines("hf:org/name:en[test]#content"), 2)) == ["row 0", "row 0"]
    assert hub.calls == [(("org/name", "en"), {"split": "test", "streaming": True})]


def test_hub_problems_are_one_sentence(monkeypatch):
    FakeHub(monkeypatch, [{"body": "x"}])
    with pytest.raises(CorpusError, match="has no field 'text', only body"):
        list(read_lines("hf:org/name"))
    FakeHub(monkeypatch, ConnectionError("no route\nmore"))
    with pytest.raises(CorpusError, match=r"cannot read data set org/name .* no route; check the name"):
        list(read_lines("hf:org/name"))


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


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
def test_an_empty_file_is_said_to_be_empty(tokenizer, tmp_path: Path, name: str):
    lines = read_lines(write(tmp_path / name, b"\n \n"))
    with pytest.raises(CorpusError, match="the text is empty: it has no document"):
        list(sequences(lines, tokenizer, 4))


def test_a_tokenizer_without_eos_is_refused(tokenizer):
    class Endless:
        eos_token_id = None

    with pytest.raises(CorpusError, match="no eos token"):
        sequences(DOCUMENTS, Endless(), 4)


def test_the_hash_tells_borders_and_order_apart():
    hashes = [corpus_hash(lines) for lines in ([], [""], ["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"])]
    assert len(set(hashes)) == len(hashes)
    assert corpus_hash(iter(["ab", "c"])) == hashes[2]


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the shared corpus is not at {CORPUS}")
def test_real_text_is_read_whole():
    path = CORPUS / "tinystories_v2_10klines.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        expected = [line.rstrip("\n") for line in file if line.strip()]
    assert list(read_lines(path)) == expected
