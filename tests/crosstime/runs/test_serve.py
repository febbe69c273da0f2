"""The report's server: the report, and nothing else, to this machine, and to nobody else."""

from __future__ import annotations

import http.client
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_run import PATIENCE

from crosstime.errors import RunError
from crosstime.runs import serve
from crosstime.runs.serve import server


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    for name in ("report.html", "manifest.json", "charts/a.svg", "charts/notes.json", "tables/a.tex", "suite/b.svg"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    (tmp_path / "secret.svg").write_text("secret")
    (run / "charts" / "link.svg").symlink_to(tmp_path / "secret.svg")
    (run / "charts" / "deep").mkdir()
    (run / "charts" / "deep" / "c.svg").write_text("deep")
    return run


@pytest.fixture
def port(run: Path) -> Iterator[int]:
    with server(run) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_port
        listening.shutdown()
        thread.join()


def ask(
    port: int, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text, response.headers


def test_the_page_its_charts_and_its_tables_are_given_out(port: int) -> None:
    for path, content, kind in (
        ("/", "report.html", "text/html"),
        ("/report.html", "report.html", "text/html"),
        ("/charts/a.svg", "charts/a.svg", "image/svg+xml"),
        ("/tables/a.tex?x=1", "tables/a.tex", "text/plain"),
    ):
        status, text, headers = ask(port, path)
        assert (status, text) == (200, content)
        assert headers["Content-Type"].startswith(kind)
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        *("/manifest.json", "/charts", "/charts/", "/charts/notes.json", "/suite/b.svg", "/charts/link.svg"),
        *("/charts/../manifest.json", "/charts/%2e%2e/manifest.json", "/../secret.svg", "/charts/../../secret.svg"),
        *("/charts/deep/c.svg", "/charts/%00.svg", "/charts/" + "a" * 5000 + ".svg", "*", "/nothing"),
    ],
)
def test_nothing_else_is(port: int, path: str) -> None:
    assert ask(port, path)[:2] == (404, "there is no such file in this report\n")


def test_head_gives_the_size_and_no_content(port: int) -> None:
    status, text, headers = ask(port, "/", method="HEAD")
    assert (status, text, headers["Content-Length"]) == (200, "", "11")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "0.0.0.0", "127.0.0.1.evil.example:1"])
def test_other_host_names_are_refused(port: int, host: str) -> None:
    assert ask(port, "/", host=host)[0] == 403


def test_localhost_is_not_refused(port: int) -> None:
    assert ask(port, "/", host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(port: int, method: str) -> None:
    assert ask(port, "/", method=method)[0] == 501


def test_it_listens_on_this_machines_own_address_only(run: Path) -> None:
    with server(run) as listening:
        assert listening.server_address[0] == "127.0.0.1"


def test_a_folder_without_a_report_and_a_taken_port_are_clear_errors(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no report\.html"):
        server(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RunError, match="cannot serve on"):
            server(run, taken.getsockname()[1])
    with pytest.raises(RunError, match="cannot serve on"):
        server(run, 70_000)


@pytest.mark.slow
def test_the_verb_says_where_and_ends_by_ctrl_c(run: Path) -> None:
    command = [sys.executable, "-c", "from crosstime.cli.main import main; main()", "serve", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        port = int(line.split(":")[-1].split("/")[0])
        assert ask(port, "/")[0] == 200
    finally:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_ctrl_c_while_a_request_is_taken_ends_the_server(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of the request has begun, and frees its place, before the signal arrives."""
    process_request = serve.ThreadingHTTPServer.process_request

    def interrupted(self, request, client_address) -> None:
        process_request(self, request, client_address)
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:
                thread.join(PATIENCE)
        raise KeyboardInterrupt

    monkeypatch.setattr(serve.ThreadingHTTPServer, "process_request", interrupted)
    with server(run) as listening, socket.create_connection(("127.0.0.1", listening.server_port)) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(KeyboardInterrupt):
            listening.handle_request()


def test_a_client_that_aborts_leaves_no_traceback(run: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "report.html").write_bytes(b"x" * 50_000_000)
    for request in (f"GET / HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n", "GET /"):
        client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        client.sendall(request.encode())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    # Connections are accepted in order: with this answer, the threads of those before have begun
    assert ask(port, "/charts/a.svg")[0] == 200
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert capsys.readouterr().err == ""


def test_other_errors_of_a_request_are_shown(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("a fault of the server")

    monkeypatch.setattr(serve._Handler, "_file", fails)
    with pytest.raises(http.client.HTTPException):
        ask(port, "/")
    assert "a fault of the server" in capsys.readouterr().err


def test_connections_beyond_the_bound_wait_for_a_place(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "MAX_CONNECTIONS", 2)
    with server(run) as listening:
        waits, acquire = threading.Event(), listening._places.acquire

        def noted() -> bool:
            free = acquire(blocking=False)
            if not free:
                waits.set()
            return free or acquire()

        monkeypatch.setattr(listening._places, "acquire", noted)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        address = ("127.0.0.1", listening.server_port)
        idle = [socket.create_connection(address, timeout=PATIENCE) for _ in range(2)]
        with socket.create_connection(address, timeout=PATIENCE) as third:
            third.sendall(f"GET / HTTP/1.0\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode())
            # It waits for a place, so that nothing has been answered
            assert waits.wait(PATIENCE)
            third.setblocking(False)
            with pytest.raises(BlockingIOError):
                third.recv(1)
            idle[0].close()
            third.settimeout(PATIENCE)
            assert third.recv(12) == b"HTTP/1.0 200"
        idle[1].close()
        listening.shutdown()
        thread.join()


def test_an_idle_connection_is_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve._Handler, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        assert client.recv(1) == b""
