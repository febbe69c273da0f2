"""Talking to an NDIF server over HTTP: submit, ask, download; every failure as one of the package's errors."""

from __future__ import annotations

import json
import os
import sys
import time
import weakref
from importlib.metadata import version
from typing import Any

import httpx
from nnsight.schema.response import ResponseModel
from pydantic import ValidationError

from interventions.errors import (
    KeyRefusedError,
    NoServerError,
    NotDeployedError,
    NotNdifError,
    RemoteError,
    RevisionUnknownError,
    ServerError,
    ServerMemoryError,
    TimeLimitError,
)
from interventions.remote.waiting import pause

KEY = "NDIF_API_KEY"
FIRST_DELAY, LONGEST_DELAY = 0.25, 5.0
PATIENCE_AT_FIRST = 3.0
"""Seconds for which a server that never answered, or that breaks over a request, is asked again."""
AWAY = (502, 503, 504)
"""What is answered in the place of a server that is not there."""


class Server:
    """One NDIF server.

    Refused connections, timeouts and answers of 500 and above are asked again with growing pauses: for three seconds,
    and once the server has answered anything, for `outage` seconds while it is away.

    Args:
        host: its URL.
        outage: seconds that it may stay away after it has answered once.
        timeout: seconds without a byte before one HTTP request is given up.
    """

    def __init__(self, host: str, outage: float, timeout: float = 60.0) -> None:
        self.host, self.outage = host, outage
        # One for all requests, of all threads: making one reads the certificates of all authorities.
        self._client = httpx.Client(timeout=httpx.Timeout(timeout, connect=10.0))
        weakref.finalize(self, self._client.close)
        self._answered = False
        self.interruptions = 0
        """How often it was away in between: a server that restarts forgets the jobs that it had in memory."""

    def submit(self, model_key: str, payload: bytes, environment: dict[str, Any]) -> str:
        """Send a job and return its id.

        Raises:
            RemoteError: one of its kinds, see `interventions.errors`.
        """
        routing = {"model_key": model_key, "session_id": "", "compress": False, "env": environment}
        answer = self._ask(
            "POST",
            f"{self.host}/request",
            data={"data": json.dumps(routing)},
            files={"blob": ("request", payload, "application/octet-stream")},
        )
        if answer.status_code in (404, 405, 501) or answer.is_redirect:
            raise NotNdifError(f"{self.host} answers, but takes no NDIF requests (HTTP {answer.status_code}).")
        self._refuse(answer, "a request")
        response = self._read(answer)
        if response.status == "ERROR":
            raise failure(response.description, self.host)
        return response.id

    def status(self, job: str) -> ResponseModel | None:
        """The last that is known of a job; None where the server knows none of that id (yet, or any more)."""
        answer = self._ask("GET", f"{self.host}/response/{job}")
        if answer.status_code == 404:
            return None
        self._refuse(answer, f"the question for job {job}")
        return self._read(answer)

    def download(self, url: str) -> bytes | None:
        """A result from where the server put it; None where it is no longer there."""
        answer = self._ask("GET", url, with_key=False)
        if answer.status_code in (403, 404, 410):
            return None
        if answer.status_code != 200:
            raise ServerError(f"The result of a job at {self.host} cannot be fetched: HTTP {answer.status_code}.")
        return answer.content

    def _ask(self, method: str, url: str, *, with_key: bool = True, **content: Any) -> httpx.Response:
        headers = {"nnsight-version": version("nnsight"), "python-version": sys.version}
        key = os.environ.get(KEY, "")
        if key and with_key:
            headers["ndif-api-key"] = key
        began, delay, status, was_away = time.monotonic(), FIRST_DELAY, 0, False
        while True:
            try:
                answer = self._client.request(method, url, headers=headers, **content)
                if answer.status_code < 500 or answer.status_code == 501:
                    self.interruptions += was_away
                    self._answered = True
                    return answer
                status = answer.status_code
                error: Exception = ServerError(self._tell(answer, "a request"))
            except httpx.HTTPError as cause:
                error = NoServerError(_hide(f"No server answers at {self.host}: {cause or type(cause).__name__}", key))
                error.__cause__ = cause
            except httpx.InvalidURL as cause:
                raise NoServerError(f"{self.host} is no address of a server: {cause}") from cause
            # A server that is away comes back; one that breaks over a request will break over it again.
            away = self._answered and not (isinstance(error, ServerError) and status not in AWAY)
            was_away = was_away or away
            allowed = self.outage if away else min(PATIENCE_AT_FIRST, self.outage)
            if time.monotonic() - began + delay > allowed:
                raise error
            pause(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    def _refuse(self, answer: httpx.Response, what: str) -> None:
        if answer.status_code in (401, 403):
            key = os.environ.get(KEY, "")
            known = f"the key in {KEY}" if key else f"requests without a key ({KEY} is not set)"
            raise KeyRefusedError(f"{self.host} refuses {known}: {_hide(_detail(answer), key)}")
        if answer.status_code != 200:
            raise failure(self._tell(answer, what), self.host)

    def _tell(self, answer: httpx.Response, what: str) -> str:
        detail = _hide(_detail(answer), os.environ.get(KEY, ""))
        return f"{self.host} answered {what} with HTTP {answer.status_code}: {detail}"

    def _read(self, answer: httpx.Response) -> ResponseModel:
        try:
            return ResponseModel.model_validate_json(answer.text)
        except ValidationError as error:
            raise NotNdifError(
                f"{self.host} answers, but not as an NDIF server does: {answer.text[:80].strip() or 'nothing'!r}."
            ) from error


def failure(message: str, where: str) -> RemoteError:
    """The error that stands for what a server said of a failed job; its message is kept.

    Examples:
        >>> type(failure("CUDA out of memory. Tried to allocate 2 GiB", "http://host")).__name__
        'ServerMemoryError'
    """
    low = message.lower()
    last = _last_line(message)
    for words, kind in _SAID:
        if any(word in low for word in words):
            return kind(f"{where}: {last}")
    return ServerError(f"A job failed at {where}: {last}")


_SAID: tuple[tuple[tuple[str, ...], type[RemoteError]], ...] = (
    (("out of memory", "outofmemory"), ServerMemoryError),
    (("revisionnotfound", "revision not found", "not a valid git identifier", "invalid rev id"), RevisionUnknownError),
    (("not deployed", "failed to deploy", "deployment failed", "cannot be deployed"), NotDeployedError),
    (("repositorynotfound", "repository not found", "cant_accommodate"), NotDeployedError),
    (("timed out", "timeout", "time limit"), TimeLimitError),
)


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"


def _detail(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return answer.text[:200].strip() or answer.reason_phrase
    return str(body.get("detail", body) if isinstance(body, dict) else body)[:500]


def _hide(text: str, key: str) -> str:
    return text.replace(key, "(key)") if key else text
