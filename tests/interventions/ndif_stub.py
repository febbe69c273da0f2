"""A stub of an NDIF server that runs requests on models of this process, and fails when a test tells it to."""

from __future__ import annotations

import io
import json
import threading
import uuid
from collections import deque
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import torch
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from nnsight.tracing import tracer as tracing


class Answer(NamedTuple):
    """An answer that a test prepares, in place of the server's own."""

    status: int
    body: bytes = b""


DROP = Answer(0)
"""Close the connection without an answer."""


class Stub:
    """A minimal NDIF server.

    Attributes:
        models: by model key, the model that runs its requests.
        canned: by route (request, response, result), answers that are given first.
        asked: method, path and headers of every HTTP request.
        requests: the routing data of each job.
    """

    def __init__(self, port: int = 0) -> None:
        self.models: dict[str, TransformersModel] = {}
        self.canned: dict[str, deque[Answer]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.requests: list[dict] = []
        self.finished: dict[str, dict] = {}
        self.results: dict[str, bytes] = {}
        self.gradients = True
        self._running = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                stub._get(self)

            def do_POST(self):
                stub._post(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, route: str, *answers: Answer) -> None:
        """Answer the next requests of a route with `answers`."""
        self.canned.setdefault(route, deque()).extend(answers)

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if self._answer_canned("request", handler):
            return
        head = f"Content-Type: {handler.headers['Content-Type']}\r\n\r\n".encode()
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts()
        }
        routing = json.loads(parts["data"])
        self.requests.append(routing)
        job = uuid.uuid4().hex
        try:
            self.results[job] = self._run(routing["model_key"], parts["blob"])
            self.finished[job] = {"id": job, "status": "COMPLETED", "data": f"{self.host}/result/{job}"}
        except Exception as error:
            self.finished[job] = {"id": job, "status": "ERROR", "description": f"{type(error).__name__}: {error}"}
        self._send(handler, 200, json.dumps({"id": job, "status": "RECEIVED"}).encode())

    def _run(self, key: str, blob: bytes) -> bytes:
        if key not in self.models:
            raise KeyError(f"model {key} is not deployed")
        if not self.gradients and b"requires_grad_" in blob:
            raise RuntimeError("OutOfOrderError: gradients are not served")
        model = self.models[key]
        with self._running:
            tracer = RequestModel.deserialize(blob, model._remoteable_persistent_objects(), compress=False)
            tracing.inc()
            try:
                tracer.execute(tracer.info.code)
                saves = tracing._saves()
                saved = {name: value for name, value in tracer.info.frame.f_locals.items() if id(value) in saves}
            finally:
                tracing.dec()
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        return buffer.getvalue()

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        _, route, job = handler.path.split("/", 2)
        if self._answer_canned(route, handler):
            return
        if route == "response" and job in self.finished:
            self._send(handler, 200, json.dumps(self.finished[job]).encode())
        elif route == "result" and job in self.results:
            self._send(handler, 200, self.results[job])
        else:
            self._send(handler, 404, b'{"detail": "unknown"}')

    def _answer_canned(self, route: str, handler: BaseHTTPRequestHandler) -> bool:
        self.asked.append((handler.command, handler.path, dict(handler.headers)))
        waiting = self.canned.get(route)
        if not waiting:
            return False
        answer = waiting.popleft()
        if answer is DROP:
            handler.close_connection = True
            handler.connection.close()
        else:
            self._send(handler, answer.status, answer.body)
        return True

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
