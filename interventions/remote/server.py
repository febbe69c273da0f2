"""HTTP requests to an NDIF server: submit, status, download. Every failure is raised as one of our own errors."""

from __future__ import annotations

import json
import os
import sys
import time
import weakref
from collections.abc import Mapping
from importlib.metadata import version

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
from interventions.remote.pause import pause

KEY = "NDIF_API_KEY"
FIRST_DELAY, LONGEST_DELAY = 0.25, 5.0
PATIENCE_AT_FIRST = 3.0
"""Seconds for which a request is retried while the server has never answered, or fails on this request."""
UNREACHABLE = (502, 503, 504)
"""HTTP status codes with which a proxy answers for a server that cannot be reached."""


class Server:
    """The connection to one NDIF server.

    Refused connections, timeouts and HTTP status codes of 500 and above are retried with growing pauses: for three
    seconds, or, once the server has answered, for `outage` seconds while it cannot be reached.

    Args:
        host: the server's URL.
        outage: seconds for which the server may be unreachable after it has answered once.
        timeout: seconds without a byte after which an HTTP request fails.
    """

    def __init__(self, host: str, outage: float, timeout: float = 60.0) -> None:
        self.host, self.outage = host, outage
        # All threads share one client, because creating one reads the certificates of all authorities.
        self._client = httpx.Client(timeout=httpx.Timeout(timeout, connect=10.0))
        weakref.finalize(self, self._client.close)
        self._answered = False
        self.interruptions = 0
        """Number of times that the server became unreachable; a restarted server has forgotten its jobs."""

    def submit(self, model_key: str, payload: bytes, environment: dict[str, object]) -> str:
        """Send a job and return its id.

        Raises:
            RemoteError: one of its subclasses, see `interventions.errors`.
        """
        routing = {"model_key": model_key, "session_id": "", "compress": False, "env": environment}
        answer = self._request(
            "POST",
            f"{self.host}/request",
            data={"data": json.dumps(routing)},
            files={"blob": ("request", payload, "application/octet-stream")},
        )
        if answer.status_code in (404, 405, 501) or answer.is_redirect:
            raise NotNdifError(f"{self.host} answers, but takes no NDIF requests (HTTP {answer.status_code}).")
        self._check_status(answer, "a request")
        response = self._parse(answer)
        if response.status == "ERROR":
            raise failure(response.description, self.host)
        return response.id

    def status(self, job: str) -> ResponseModel | None:
        """Return the latest status of a job; None if the server does not know the job yet, or no longer."""
        answer = self._request("GET", f"{self.host}/response/{job}")
        if answer.status_code == 404:
            return None
        self._check_status(answer, f"the question for job {job}")
        return self._parse(answer)

    def download(self, url: str) -> bytes | None:
        """Download a result; None if the server no longer has it."""
        answer = self._request("GET", url, with_key=False)
        if answer.status_code in (403, 404, 410):
            return None
        if answer.status_code != 200:
            raise ServerError(f"The result of a job at {self.host} cannot be fetched: HTTP {answer.status_code}.")
        return answer.content

    def _request(
        self,
        method: str,
        url: str,
        *,
        with_key: bool = True,
        data: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
    ) -> httpx.Response:
        """Send one HTTP request, with retries.

        Raises:
            NoServerError: the server cannot be reached.
            ServerError: it answers with a status code of 500 or above.
        """
        headers = {"nnsight-version": version("nnsight"), "python-version": sys.version}
        key = os.environ.get(KEY, "")
        if key and with_key:
            headers["ndif-api-key"] = key

        began, delay, status, was_unreachable = time.monotonic(), FIRST_DELAY, 0, False
        while True:
            # Send the request, and return any answer of a working server
            try:
                answer = self._client.request(method, url, headers=headers, data=data, files=files)
                if answer.status_code < 500 or answer.status_code == 501:
                    self.interruptions += was_unreachable
                    self._answered = True
                    return answer
                status = answer.status_code
                error: Exception = ServerError(self._describe(answer, "a request"))
            except httpx.HTTPError as cause:
                error = NoServerError(_hide(f"No server answers at {self.host}: {cause or type(cause).__name__}", key))
                error.__cause__ = cause
            except httpx.InvalidURL as cause:
                raise NoServerError(f"{self.host} is no address of a server: {cause}") from cause

            # An unreachable server may come back, but a server that fails on a request will fail on it again
            unreachable = self._answered and not (isinstance(error, ServerError) and status not in UNREACHABLE)
            was_unreachable = was_unreachable or unreachable
            allowed = self.outage if unreachable else min(PATIENCE_AT_FIRST, self.outage)

            # Retry after a pause
            if time.monotonic() - began + delay > allowed:
                raise error
            pause(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    def _check_status(self, answer: httpx.Response, request: str) -> None:
        """Raise the error that an answer's HTTP status code stands for.

        Args:
            answer: the server's answer.
            request: describes what it answers, for the message.
        """
        if answer.status_code in (401, 403):
            key = os.environ.get(KEY, "")
            known = f"the key in {KEY}" if key else f"requests without a key ({KEY} is not set)"
            raise KeyRefusedError(f"{self.host} refuses {known}: {_hide(_detail(answer), key)}")
        if answer.status_code != 200:
            raise failure(self._describe(answer, request), self.host)

    def _describe(self, answer: httpx.Response, request: str) -> str:
        detail = _hide(_detail(answer), os.environ.get(KEY, ""))
        return f"{self.host} answered {request} with HTTP {answer.status_code}: {detail}"

    def _parse(self, answer: httpx.Response) -> ResponseModel:
        try:
            return ResponseModel.model_validate_json(answer.text)
        except ValidationError as error:
            raise NotNdifError(
                f"{self.host} answers, but not as an NDIF server does: {answer.text[:80].strip() or 'nothing'!r}."
            ) from error


def failure(message: str, host: str) -> RemoteError:
    """Return the error that stands for a server's message about a failed job; the error quotes its last line.

    Args:
        message: the server's message.
        host: the server's URL.

    Examples:
        >>> type(failure("CUDA out of memory. Tried to allocate 2 GiB", "http://host")).__name__
        'ServerMemoryError'
    """
    lower = message.lower()
    last = _last_line(message)
    for phrases, error_class in _ERRORS_BY_PHRASE:
        if any(phrase in lower for phrase in phrases):
            return error_class(f"{host}: {last}")
    return ServerError(f"A job failed at {host}: {last}")


_ERRORS_BY_PHRASE: tuple[tuple[tuple[str, ...], type[RemoteError]], ...] = (
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
    """Return what the body of an answer says about an error."""
    try:
        body = answer.json()
    except ValueError:
        return answer.text[:200].strip() or answer.reason_phrase
    return str(body.get("detail", body) if isinstance(body, dict) else body)[:500]


def _hide(text: str, key: str) -> str:
    """Remove the API key from a text."""
    return text.replace(key, "(key)") if key else text
