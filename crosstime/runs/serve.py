"""A run's report over HTTP, for this machine only: for a browser at the other end of an SSH tunnel."""

from __future__ import annotations

import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from crosstime.errors import RunError
from user_input.home import expanded

ADDRESS = "127.0.0.1"
PAGE = "report.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".csv": "text/csv; charset=utf-8",
    ".tex": "text/plain; charset=utf-8",
}
FOLDERS = ("charts", "tables")
MAX_CONNECTIONS = 32
"""Requests that are answered at the same time; a browser opens six. Further ones wait."""
IDLE_SECONDS = 30
"""Time after which a connection that neither sends nor takes anything is closed."""


def server(run: str | Path, port: int = 0) -> ThreadingHTTPServer:
    """Make a server of one run's report on 127.0.0.1, not yet running.

    It serves ``report.html`` and the files of ``charts/`` and ``tables/``, and nothing else: no listing, no other file
    of the run, no link that leads out of its folder. Requests under another host name are refused, so that a page from
    elsewhere cannot read the report through a name that resolves to this machine.

    Args:
        run: the run's folder.
        port: the port; 0 takes a free one, which ``server.server_port`` names.

    Raises:
        RunError: the folder has no report, or the port is taken.

    Examples:
        >>> server("runs/demo").serve_forever()  # doctest: +SKIP
    """
    folder = expanded(run).resolve()
    if not (folder / PAGE).is_file():
        raise RunError(f"{run} has no {PAGE}: it is not the folder of a finished run")
    handler = type("Handler", (_Handler,), {"folder": folder})
    try:
        return _Server((ADDRESS, port), handler)
    except (OSError, OverflowError) as error:
        raise RunError(f"cannot serve on {ADDRESS}:{port}: {error}; take another port, or 0 for a free one") from error


class _Server(ThreadingHTTPServer):
    """A server with a bounded number of threads, for which a client that goes away is no error."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        self._places.acquire()
        try:
            super().process_request(request, client_address)
        except Exception:
            # No thread began, which would free the place; after Ctrl-C one may have, and the server ends
            self._places.release()
            raise

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        # A browser aborts requests whenever its user leaves the page.
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers requests for the files of a report."""

    timeout = IDLE_SECONDS
    folder: ClassVar[Path]
    server_version, sys_version = "crosstime", ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a terminal full of requests hides the address."""

    def _answer(self, *, with_body: bool) -> None:
        # Refuse other host names
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
        if host not in (ADDRESS, "localhost"):
            self._send(HTTPStatus.FORBIDDEN, b"this server answers to 127.0.0.1 only\n", "text/plain", with_body)
            return

        # Find the file
        file = self._file(unquote(urlsplit(self.path).path))
        if file is None:
            self._send(HTTPStatus.NOT_FOUND, b"there is no such file in this report\n", "text/plain", with_body)
            return

        # Send it
        try:
            content = file.read_bytes()
        except OSError:
            self._send(HTTPStatus.NOT_FOUND, b"the file cannot be read\n", "text/plain", with_body)
            return
        self._send(HTTPStatus.OK, content, TYPES[file.suffix], with_body)

    def _file(self, path: str) -> Path | None:
        """The file at a path of a URL; None if it is not a file of the report."""
        if path == "/":
            path = f"/{PAGE}"
        folder, _, name = path.removeprefix("/").rpartition("/")
        if not path.startswith("/") or folder not in ("", *FOLDERS) or (not folder and name != PAGE):
            return None
        # A name that the file system does not allow, such as one with a null byte, is no file.
        try:
            file = (self.folder / folder / name).resolve()
            served = file.is_file() and file.suffix in TYPES and file.parent == self.folder / folder
        except (OSError, ValueError):
            return None
        return file if served else None

    def _send(self, status: HTTPStatus, content: bytes, content_type: str, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(content)
