"""An OpenAI-compatible endpoint on loopback, which answers as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, str | bytes, dict[str, str]]
"""HTTP status, body, headers."""


def completion(text: str | None) -> Answer:
    """What an endpoint answers when the model wrote `text`."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return 200, json.dumps({"object": "chat.completion", "choices": [choice]}), {}


@dataclass
class StandIn:
    """The endpoint: its address, what it was sent, and how many requests were there at the same time."""

    answer: Callable[[dict[str, Any]], Answer]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def endpoint(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[StandIn]:
    """Serve an endpoint while the block runs; `answer` gets the body of each request."""
    stand_in = StandIn(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with stand_in.lock:
                stand_in.bodies.append(body)
                stand_in.paths.append(self.path)
                stand_in.keys.append(self.headers.get("authorization"))
                stand_in.at_once += 1
                stand_in.most_at_once = max(stand_in.most_at_once, stand_in.at_once)
            try:
                status, content, headers = stand_in.answer(body)
            finally:
                with stand_in.lock:
                    stand_in.at_once -= 1
            data = content if isinstance(content, bytes) else content.encode()
            try:
                self.send_response(status)
                for name, value in {"content-length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # the client no longer waits
                pass

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stand_in.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
