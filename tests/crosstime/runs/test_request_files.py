"""Requests and replies are read once, and again when a file has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crosstime.errors import AnnotationError
from crosstime.runs.descriptions import request_files
from crosstime.runs.descriptions.request_files import RequestFiles

MESSAGES = [{"role": "user", "content": "which?"}]


def append(path: Path, *rows: dict[str, object]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def files(tmp_path: Path) -> RequestFiles:
    append(tmp_path / "asked.jsonl", *({"id": f"f{feature}", "messages": MESSAGES} for feature in (3, 5, 8)))
    return RequestFiles(tmp_path / "asked.jsonl", tmp_path / "replies.jsonl")


@pytest.fixture
def readings(monkeypatch) -> list[str]:
    """The names of the files that have been read."""
    names: list[str] = []
    for function in ("read_requests", "read_replies"):
        original = getattr(request_files, function)

        def counted(path: Path, *ids: object, original=original) -> object:
            names.append(path.name)
            return original(path, *ids)

        monkeypatch.setattr(request_files, function, counted)
    return names


def test_files_are_read_once_until_one_of_them_changes(files: RequestFiles, readings: list[str]):
    assert list(files.unanswered) == ["f3", "f5", "f8"]
    assert files.replies == {}
    assert readings == ["asked.jsonl"]

    append(files.replies_path, {"id": "f5", "text": "nouns"})
    for _ in range(3):
        assert list(files.unanswered) == ["f3", "f8"]
        assert files.replies == {"f5": "nouns"}
    assert readings == ["asked.jsonl", "asked.jsonl", "replies.jsonl"]

    append(files.replies_path, {"id": "f3", "text": "verbs"}, {"id": "f8", "text": ""})
    assert files.unanswered == {}
    assert files.replies == {"f5": "nouns", "f3": "verbs", "f8": ""}


def test_a_reply_without_a_request_is_refused_at_each_question(files: RequestFiles):
    append(files.replies_path, {"id": "f4", "text": "nouns"})
    for _ in range(2):
        with pytest.raises(AnnotationError, match="there is no request 'f4'"):
            _ = files.unanswered


def test_without_requests_there_is_nothing_to_answer(tmp_path: Path):
    append(tmp_path / "replies.jsonl", {"id": "f5", "text": "nouns"})
    files = RequestFiles(tmp_path / "asked.jsonl", tmp_path / "replies.jsonl")
    assert (files.unanswered, files.replies) == ({}, {})
