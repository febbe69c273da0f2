"""Requests to a language model and its replies, as JSON Lines that any tool can send and collect.

A request has an ``id`` and ``messages``, a list of ``{"role": ..., "content": ...}`` as chat models take it. A reply
has the ``id`` of its request and a ``text``, what the model wrote. Nothing here sends anything.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from crosstime.errors import AnnotationError
from crosstime.machine.storage import atomic_path
from tasks import files
from tasks.errors import DataError
from user_input.nearest import nearest


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write JSON Lines; the file is complete or absent, and an existing one is not overwritten.

    Args:
        path: of the file.
        rows: one object for each line.

    Raises:
        AnnotationError: the file exists already, or there are no rows.

    Examples:
        >>> write_rows("requests.jsonl", [{"id": "f3"}])  # doctest: +SKIP
    """
    target = Path(path)
    if target.exists():
        raise AnnotationError(f"{target} is there already, and replies may refer to it: move it away first.")
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    if not text:
        raise AnnotationError(f"There are no requests to write to {target}.")
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def read_rows(path: str | Path) -> list[tuple[str, dict[str, Any]]]:
    """Read JSON Lines of unknown origin; every row with its place for messages.

    Raises:
        AnnotationError: the file is missing, or a line is not a JSON object.

    Examples:
        >>> read_rows("replies.jsonl")[0]  # doctest: +SKIP
        ('replies.jsonl:1', {'id': 'f3', 'text': '...'})
    """
    if not Path(path).is_file():
        raise AnnotationError(f"There is no file {path}.")
    try:
        return list(files.json_lines(Path(path)))
    except DataError as error:
        raise AnnotationError(str(error)) from error


def read_replies(path: str | Path, ids: Collection[str]) -> dict[str, str]:
    """Read the text of every reply. Requests without a reply are left out.

    Args:
        path: of the replies; other fields than ``id`` and ``text`` are ignored.
        ids: of the requests.

    Raises:
        AnnotationError: as `read_rows`; or a reply has no ``id`` or ``text``, answers no request, or answers one that
            another reply answers.

    Examples:
        >>> read_replies("replies.jsonl", ["f3", "f17"])["f3"]  # doctest: +SKIP
        '{"description": "plural nouns", "complexity": 2}'
    """
    return parse_replies(read_rows(path), ids)


def parse_replies(rows: Iterable[tuple[str, Mapping[str, Any]]], ids: Collection[str]) -> dict[str, str]:
    """The text of every reply, as `read_replies` reads it, from rows that have been read.

    Args:
        rows: of `read_rows`.
        ids: of the requests.

    Raises:
        AnnotationError: as `read_replies`.

    Examples:
        >>> parse_replies([("replies.jsonl:1", {"id": "f3", "text": "[1, 0]"})], ["f3"])
        {'f3': '[1, 0]'}
    """
    replies: dict[str, str] = {}
    for place, row in rows:
        for field in ("id", "text"):
            if not isinstance(row.get(field), str):
                raise AnnotationError(f'{place}: a reply needs the strings "id" and "text"; {field!r} is none.')
        request, text = row["id"], row["text"]
        if request not in ids:
            raise AnnotationError(f"{place}: there is no request {request[:60]!r}: {nearest(request, ids)}")
        if request in replies:
            raise AnnotationError(f"{place}: request {request!r} has a reply already.")
        replies[request] = text
    return replies
