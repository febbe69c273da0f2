"""One request to a language model at a time, with a bounded number of attempts."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType

import httpx

from crosstime.errors import EndpointError
from crosstime.features.endpoint import Endpoint
from user_input.parse_json import JsonError, parse_json
from user_input.reason import reason

FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
"""Seconds between the first two attempts of a request, which double from then on, and the longest pause."""
_TRANSIENT = (408, 409, 425, 429)
"""HTTP status codes below 500 after which the same request may succeed."""


class ChatClient:
    """A client for the chat completions of an OpenAI-compatible endpoint, for any number of threads.

    Args:
        endpoint: where to send requests. Its key is read from the environment now.

    Raises:
        EndpointError: the key cannot be sent.

    Examples:
        >>> with ChatClient(Endpoint("http://127.0.0.1:8000/v1", "my-model")) as client:  # doctest: +SKIP
        ...     client.reply([{"role": "user", "content": "Say yes."}])
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.stop = threading.Event()
        """Set it to end the pauses of all threads; their requests then fail."""
        self._key = endpoint.key()
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = httpx.Timeout(endpoint.timeout, connect=min(10.0, endpoint.timeout))
        limits = httpx.Limits(max_connections=endpoint.concurrency)
        self._client = httpx.Client(headers=headers, timeout=timeout, limits=limits)

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def reply(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Send messages, and return the text of the model; the empty string if it refused to write any.

        Timeouts, lost connections, answers of another form and the HTTP status codes 408, 409, 425, 429 and from 500
        on are retried, after growing pauses or as long as the header ``Retry-After`` says, but at most a minute.

        Raises:
            EndpointError: all attempts failed, the endpoint refuses the request, or the client was stopped.
        """
        body: dict[str, object] = {"model": self.endpoint.model, "messages": [dict(message) for message in messages]}
        if self.endpoint.temperature is not None:
            body["temperature"] = self.endpoint.temperature

        failure, delay = "", 0.0
        for attempt in range(self.endpoint.attempts):
            # Wait before every attempt but the first
            if attempt and self.stop.wait(delay):
                raise EndpointError(f"requests to {self.endpoint.url} were stopped")
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2**attempt)

            # Send the request; `from None`, because an error of the HTTP library holds the request with its key
            try:
                answer = self._client.post(self.endpoint.requests_url, json=body)
            except httpx.TimeoutException:
                failure = f"did not answer within {self.endpoint.timeout:g} seconds"
                continue
            except httpx.InvalidURL as error:
                raise EndpointError(f"{self.endpoint.url} is no address: {self._hide(reason(error))}") from None
            except httpx.HTTPError as error:
                failure = f"cannot be reached: {self._hide(reason(error))}"
                continue

            # Take the text, or find out whether another attempt is of use
            if answer.status_code == 200:
                text = _text(answer.text)
                if text is not None:
                    return self._hide(text)
                failure = f"does not answer as an OpenAI-compatible endpoint does, but with {self._quote(answer.text)}"
                continue
            failure = f"answers with HTTP {answer.status_code}: {self._quote(answer.text)}"
            if answer.status_code < 500 and answer.status_code not in _TRANSIENT:
                raise EndpointError(f"{self.endpoint.requests_url} {failure}{self._advice(answer.status_code)}")
            delay = _retry_after(answer.headers.get("retry-after", "")) or delay

        attempts = "1 attempt" if self.endpoint.attempts == 1 else f"{self.endpoint.attempts} attempts"
        raise EndpointError(f"{self.endpoint.requests_url} {failure} ({attempts})")

    def _advice(self, status: int) -> str:
        """What may be wrong with the key."""
        if status not in (401, 403):
            return ""
        return f" (the environment variable {self.endpoint.key_variable} {'was used' if self._key else 'is not set'})"

    def _quote(self, text: str) -> str:
        """The beginning of an answer on one line, without the key."""
        # Hide the key first, which may be cut in two by the limit
        return repr(" ".join(self._hide(text).split())[:200])

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "(key)") if self._key else text


def _text(body: str) -> str | None:
    """The text of a chat completion; None if it is none."""
    try:
        answer = parse_json(body)
    except JsonError:
        return None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict) or "content" not in message:
        return None
    # A model that refuses, or is stopped by a filter, has no content
    content = message["content"]
    return "" if content is None else content if isinstance(content, str) else None


def _retry_after(header: str) -> float:
    """The seconds of a header ``Retry-After``, a minute at most; 0 if it gives none."""
    return min(LONGEST_DELAY, float(header)) if header.isdecimal() and len(header) < 10 else 0.0
