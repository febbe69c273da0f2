"""A file of requests and the file of their replies, which are read once for all that asks about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crosstime.features.replies import read_replies
from crosstime.features.send_requests import read_requests

FileState = tuple[int, int] | None
"""Time of change and size of a file, None where there is none."""


class RequestFiles:
    """Requests and their replies. The files are read when they are first needed, and again when one has changed.

    Args:
        requests_path, replies_path: the files; either may be absent, and then has no rows.

    Raises:
        AnnotationError: from each property, as `read_requests` and `read_replies`.

    Examples:
        >>> files = RequestFiles(Path("describe.jsonl"), Path("descriptions.jsonl"))
        >>> files.unanswered
        {}
    """

    def __init__(self, requests_path: Path, replies_path: Path) -> None:
        self.requests_path, self.replies_path = requests_path, replies_path
        self._state: tuple[FileState, FileState] = (None, None)
        self._requests: dict[str, dict[str, Any]] = {}
        self._replies: dict[str, str] = {}

    @property
    def replies(self) -> dict[str, str]:
        """The text of each reply by the id of its request."""
        self._read()
        return self._replies

    @property
    def unanswered(self) -> dict[str, dict[str, Any]]:
        """The requests that have no reply yet, by their ids."""
        self._read()
        return {name: request for name, request in self._requests.items() if name not in self._replies}

    def _read(self) -> None:
        """Read both files, unless they are those that were read before."""
        state = (_state(self.requests_path), _state(self.replies_path))
        if state == self._state:
            return
        requests = {} if state[0] is None else read_requests(self.requests_path)
        # Replies without requests belong to no known file, and are not looked at
        replies = {} if None in state else read_replies(self.replies_path, requests)
        self._requests, self._replies, self._state = requests, replies, state


def _state(path: Path) -> FileState:
    """What changes when a file is written."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size
