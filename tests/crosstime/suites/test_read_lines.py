"""Documents from text files, JSON Lines and Hub data sets, and what is said of those that cannot be read."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path

import pytest
from huggingface_hub import constants

from crosstime.errors import CorpusError
from crosstime.suites.read_lines import HubText, read_lines, text_file, text_files

LINES = ["the cat sat .", "", "the dogs ran far away .", "é ☃ naïve"]
TEXT = "\n".join(LINES) + "\n"
DOCUMENTS = [line for line in LINES if line]
CORPUS = Path(__file__).parents[4] / "shared" / "data" / "corpus"


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
    first = write(tmp_path / "a.txt", b"one\n")
    second = write(tmp_path / "b.jsonl", b'{"text": "two"}\n')
    assert list(read_lines([second, str(first)])) == ["two", "one"]


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
        monkeypatch.setattr("user_input.hub_reach._answers", {constants.ENDPOINT: (float("inf"), None)})

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
    with pytest.raises(CorpusError, match=r"cannot read data set org/name .* no route more; check the name"):
        list(read_lines("hf:org/name"))


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the shared corpus is not at {CORPUS}")
def test_real_text_is_read_whole():
    path = CORPUS / "tinystories_v2_10klines.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        expected = [line.rstrip("\n") for line in file if line.strip()]
    assert list(read_lines(path)) == expected


def test_one_resolver_finds_the_files_for_readers_and_for_hashes(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.txt", b"one\n")
    assert list(read_lines("~/a.txt")) == list(read_lines([Path("~/a.txt")])) == ["one"]
    assert text_file("~/a.txt") == tmp_path / "a.txt"
    assert text_files(["~/a.txt", "hf:a/b:en[train]"]) == {"~/a.txt": tmp_path / "a.txt"}
    assert text_files("hf:a/b") == {}
    with pytest.raises(CorpusError, match="there is no text file ~nobody-of-that-name"):
        read_lines("~nobody-of-that-name/a.txt")
