"""The ids of jobs on a server, kept in a file, so that a run that was stopped finds its jobs again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from crosstime.errors import RunError
from crosstime.machine.storage import read_json, write_json


class JobFile(MutableMapping[str, str]):
    """A mapping from requests to job ids that is written to disk before anybody waits for the job.

    Pass it to `interventions.Remote` as `jobs`; several threads may write.

    Args:
        path: a JSON file; it need not exist.

    Raises:
        RunError: the file holds something else.

    Examples:
        >>> remote = Remote("http://127.0.0.1:8001", jobs=JobFile("runs/mine/jobs.json"))  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._ids: dict[str, str] = {}
        if self.path.is_file():
            ids = read_json(self.path)
            if not isinstance(ids, dict) or not all(isinstance(job, str) for job in ids.values()):
                raise RunError(f"{self.path} must hold job ids by request; remove it to send all requests again.")
            self._ids = ids

    def __getitem__(self, request: str) -> str:
        return self._ids[request]

    def __setitem__(self, request: str, job: str) -> None:
        with self._lock:
            self._ids[request] = job
            self._write()

    def __delitem__(self, request: str) -> None:
        with self._lock:
            del self._ids[request]
            self._write()

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._ids))

    def __len__(self) -> int:
        return len(self._ids)

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self._ids)
