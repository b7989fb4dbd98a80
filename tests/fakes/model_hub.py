"""Owns a model hub on this machine: what a client of Hugging Face's hub asks for, and no more.

Paths and headers are those of the hub's HTTP API. It counts what it was asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """Models by name; `gated` are given to nobody."""

    models: Mapping[str, Path]
    gated: frozenset[str] = frozenset()
    failing: bool = False
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def files(self, name: str) -> list[Path]:
        folder = self.models[name]
        return sorted(file for file in folder.rglob("*") if file.is_file())


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        owner, name, kind, revision, *rest = (*(parts[2:] if api else parts), "", "", "")
        model = f"{owner}/{name}"
        if self.hub.failing:
            self._send(503, b"{}")
        elif model in self.hub.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif model not in self.hub.models:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("", "main", COMMIT):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif api:
            self._send(200, json.dumps(self._listing(model, kind)).encode())
        else:
            self._file(self.hub.models[model] / "/".join(filter(None, rest)))

    def _listing(self, model: str, kind: str) -> object:
        folder = self.hub.models[model]
        names = {file: str(file.relative_to(folder)) for file in self.hub.files(model)}
        if kind == "tree":
            return [
                {"type": "file", "path": path, "size": file.stat().st_size, "oid": _etag(file)}
                for file, path in names.items()
            ]
        siblings = [{"rfilename": path} for path in names.values()]
        return {"_id": "1", "id": model, "sha": COMMIT, "siblings": siblings, "tags": []}

    def _file(self, file: Path) -> None:
        if not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": COMMIT}
        self._send(200, file.read_bytes(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()


@contextmanager
def model_hub(models: Mapping[str, Path], gated: frozenset[str] = frozenset()) -> Iterator[Hub]:
    """A hub on loopback, until the end of the block."""
    hub = Hub(models, gated)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
