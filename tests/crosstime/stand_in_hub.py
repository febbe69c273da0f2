"""A stand-in for the model Hub on the loopback interface: repositories, each with a folder for every branch.

As a program it serves one repository until it is stopped: ``stand_in_hub.py REPOSITORY FOLDER PORT``.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit


class StandInHub:
    """Serves what the Hub's client asks for to list and to read models; nothing can be written.

    Attributes:
        url: for ``HF_ENDPOINT``.
        asked: method and path of every request, in order.
    """

    def __init__(self, repositories: Mapping[str, Mapping[str, Path]], port: int = 0) -> None:
        self.repositories = repositories
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> StandInHub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:])
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._missing("EntryNotFound")

    def _api(self, name: str, rest: list[str]) -> None:
        branches = self.hub.repositories.get(name)
        if branches is None:
            return self._missing("RepoNotFound")
        if rest == ["refs"]:
            refs = [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": commit(name, branch)}
                for branch in branches
            ]
            return self._json({"branches": refs, "tags": [], "converts": []})
        kind, branch = rest[:2] if len(rest) >= 2 else ("revision", "main")
        folder = self._folder(name, branch)
        if folder is None:
            return self._missing("RevisionNotFound")
        files = sorted(path for path in folder.iterdir() if path.is_file())
        if kind == "tree":
            listed = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": digest(file)} for file in files
            ]
            return self._json(listed if len(rest) == 2 else [])
        siblings = [{"rfilename": file.name} for file in files]
        if "blobs=" in urlsplit(self.path).query:
            siblings = [sibling | _facts_of(file) for sibling, file in zip(siblings, files, strict=True)]
        facts = {"id": name, "modelId": name, "sha": commit(name, folder.name), "private": False, "gated": False}
        facts |= {"disabled": False, "tags": [], "downloads": 0, "likes": 0, "pipeline_tag": "text-generation"}
        return self._json({**facts, "library_name": "transformers", "siblings": siblings})

    def _file(self, name: str, branch: str, inside: str) -> None:
        if name not in self.hub.repositories:
            return self._missing("RepoNotFound")
        folder = self._folder(name, branch)
        if folder is None:
            return self._missing("RevisionNotFound")
        which = {"X-Repo-Commit": commit(name, folder.name)}
        file = folder / inside
        if not file.is_file():
            return self._missing("EntryNotFound", which)
        return self._send(HTTPStatus.OK, file.read_bytes(), which | {"ETag": f'"{digest(file)}"'})

    def _folder(self, name: str, branch: str) -> Path | None:
        """The folder of a branch, which may be named by its commit."""
        folders = self.hub.repositories[name].items()
        names = ((subname, commit(name, subname), commit(name, folder.name)) for subname, folder in folders)
        return next((folder for known, (_, folder) in zip(names, folders, strict=True) if branch in known), None)

    def _json(self, content: object) -> None:
        self._send(HTTPStatus.OK, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _send(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def branches(folder: Path) -> dict[str, Path]:
    """The checkpoints in a folder, as branches of one repository."""
    return {path.name: path for path in sorted(folder.iterdir()) if (path / "config.json").is_file()}


def commit(name: str, branch: str) -> str:
    """The commit that a branch stands at."""
    return hashlib.sha1(f"{name}@{branch}".encode()).hexdigest()


def digest(file: Path) -> str:
    """What the Hub calls a file's content: the SHA-256 if Git LFS keeps it, as it does weights, else a blob's id."""
    content = file.read_bytes()
    if file.suffix in (".safetensors", ".bin"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _facts_of(file: Path) -> dict[str, object]:
    """Size and digests of a file, as the Hub lists them with ``blobs=true``."""
    size, name = file.stat().st_size, digest(file)
    if len(name) == 64:
        return {"size": size, "blobId": "0" * 40, "lfs": {"sha256": name, "size": size, "pointerSize": 130}}
    return {"size": size, "blobId": name}


if __name__ == "__main__":
    with StandInHub({sys.argv[1]: branches(Path(sys.argv[2]))}, int(sys.argv[3])):
        threading.Event().wait()
