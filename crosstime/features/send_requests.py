"""Send requests to a language model, and keep every reply as soon as it is there."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from crosstime.errors import AnnotationError, EndpointError
from crosstime.features.chat_client import ChatClient
from crosstime.features.endpoint import Endpoint
from crosstime.features.replies import parse_replies, read_rows
from crosstime.features.request_cost import TokenPrices, request_cost
from crosstime.machine.lock import exclusive
from user_input.parse_json import JsonError, parse_json


def send_requests(
    requests: str | Path,
    replies: str | Path,
    endpoint: Endpoint,
    *,
    prices: TokenPrices | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> int:
    """Send requests that have no reply yet, and add a line to the file of replies for each answer.

    A reply is ``{"id": ..., "text": ..., "model": ..., "digest": ...}``, with a digest of model, temperature and
    messages. The file is also the cache: after a stop, for whatever reason, the same call sends what is left. A request
    that fails in all attempts stops the work; those that are on their way then are waited for, and their replies kept.

    Args:
        requests: JSON Lines with an ``id`` and ``messages``, such as of `write_description_requests`.
        replies: JSON Lines; the file may exist, with replies from anywhere.
        endpoint: the model that is asked.
        prices: of a million tokens, for the estimate.
        announce: called with an estimate of tokens and price before the first request is sent, and at the end.

    Returns:
        The number of requests that were sent.

    Raises:
        AnnotationError: a line is no request or no reply, or a reply was written by another model or for another
            request of the same id.
        EndpointError: the endpoint refuses a request, or does not answer it; the sentence names the request.
        RunError: another process is writing the replies.

    Examples:
        >>> endpoint = Endpoint("http://127.0.0.1:8000/v1", "my-model")
        >>> send_requests("describe.jsonl", "replies.jsonl", endpoint, announce=print)  # doctest: +SKIP
    """
    target = Path(replies)
    lock = target.with_name(f".{target.name}.lock")
    with exclusive(lock, work=f"a client that writes {target}", instead="write the replies to another file"):
        # Leave out what has a reply
        asked = read_requests(requests)
        _end_last_line(target)
        answered = _answered(target, asked, endpoint) if target.exists() else set()
        left = {name: request for name, request in asked.items() if name not in answered}
        if not left:
            return 0
        cost = request_cost(left.values(), prices)
        announce(f"{endpoint.model}: {cost}" + (f"; {len(answered):,} have a reply" if answered else ""))

        # Ask, and keep each reply
        try:
            with ChatClient(endpoint) as client, target.open("ab") as file:
                _send_all(client, left, file.fileno())
        finally:
            if target.exists() and not target.stat().st_size:
                target.unlink()
        announce(f"{endpoint.model}: {len(left):,} replies in {target}")
    return len(left)


def read_requests(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read requests by their ids.

    Raises:
        AnnotationError: the file is missing, a line is no request, or an id occurs twice.

    Examples:
        >>> list(read_requests("describe.jsonl"))  # doctest: +SKIP
        ['f3', 'f17']
    """
    requests: dict[str, dict[str, Any]] = {}
    for place, row in read_rows(path):
        name, messages = row.get("id"), row.get("messages")
        if not isinstance(name, str):
            raise AnnotationError(f'{place}: a request needs a string "id".')
        if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
            raise AnnotationError(
                f'{place}: a request needs "messages", objects with the strings "role" and "content".'
            )
        if name in requests:
            raise AnnotationError(f"{place}: there is a request {name[:60]!r} already.")
        requests[name] = row
    return requests


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(field), str) for field in ("role", "content"))


def _send_all(client: ChatClient, requests: Mapping[str, Mapping[str, Any]], descriptor: int) -> None:
    """Send requests from several threads, each of which writes its replies."""
    writing = threading.Lock()
    failures: list[EndpointError] = []

    def send(name: str, request: Mapping[str, Any]) -> None:
        if client.stop.is_set():
            return
        try:
            text = client.reply(request["messages"])
        except EndpointError as error:
            # Here and not after the wait, or this thread would begin with the next request before
            with writing:
                failures.append(EndpointError(f"request {name!r}: {error}"))
            client.stop.set()
            return
        model = client.endpoint.model
        row = {"id": name, "text": text, "model": model, "digest": _digest(request, client.endpoint)}
        with writing:
            _append(descriptor, row)

    with ThreadPoolExecutor(client.endpoint.concurrency) as threads:
        futures = [threads.submit(send, name, request) for name, request in requests.items()]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # After Ctrl-C or a full disk no further request is sent
            client.stop.set()
            threads.shutdown(cancel_futures=True)
    for future in done:
        future.result()
    # The first failure is the reason; those that follow were stopped by it
    if failures:
        raise failures[0]


def _append(descriptor: int, row: Mapping[str, str]) -> None:
    """Write one line, and wait until it is on the disk: replies cost money."""
    line = (json.dumps(row, ensure_ascii=True) + "\n").encode()
    while line:
        line = line[os.write(descriptor, line) :]
    os.fsync(descriptor)


def _end_last_line(path: Path) -> None:
    """Remove the part of a line at which a client was killed; end a complete last line."""
    if not path.is_file():
        return
    content = path.read_bytes()
    last = content.rpartition(b"\n")[2]
    if not last:
        return
    try:
        parse_json(last.decode())
    except (UnicodeDecodeError, JsonError):
        os.truncate(path, len(content) - len(last))
    else:
        with path.open("ab") as file:
            file.write(b"\n")


def _answered(path: Path, requests: Mapping[str, Mapping[str, Any]], endpoint: Endpoint) -> set[str]:
    """The ids that have a reply; replies without a digest are from elsewhere, and taken as they are."""
    rows = read_rows(path)
    answered = set(parse_replies(rows, requests))
    for place, row in rows:
        if row.get("digest", _digest(requests[row["id"]], endpoint)) != _digest(requests[row["id"]], endpoint):
            raise AnnotationError(
                f"{place}: the reply to {row['id']!r} is that of another model, temperature or request: move {path} "
                "away, or ask the same model."
            )
    return answered


def _digest(request: Mapping[str, Any], endpoint: Endpoint) -> str:
    """Digest of all that determines a reply."""
    content = json.dumps([endpoint.model, endpoint.temperature, request["messages"]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
