"""Shows a process to Prometheus and to whoever probes it: `/metrics`, `/healthz`, `/readyz`.

A thread answers, so that a process whose event loop is stuck can still say so. `/healthz` is about
that loop alone; `/readyz` about what the process needs for its work. Without a port that can be had
the process goes on unseen: measuring must never cost the work.
"""

from __future__ import annotations

import asyncio
import ipaddress
import platform
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import orjson
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    ProcessCollector,
    make_wsgi_app,
)

from shared.clock import monotonic
from shared.metrics.catalogue import (
    ALL,
    BUILD_INFO,
    BUS_CONNECTED,
    DISK_FREE,
    DISK_SIZE,
    LOOP_LAG,
    READY,
)
from shared.metrics.kinds import registered
from shared.settings import Place
from shared.telemetry import Log

VERSION = "0.1.0"
"""As in `pyproject.toml`, which an installed system does not have."""
TARGETS_FILE = "metrics.json"
"""In the data folder of a local system: its processes, as Prometheus' `file_sd` names targets."""
STUCK = 30.0
"""Seconds without a sign of life of the event loop after which the process is not healthy."""
_LOOK = 0.5
_LOOK_AT_DISK = 10.0
_NOTICE = 0.25
"""Seconds after which the server notices that it is to end, which the process waits for."""
Answer = tuple[str, dict[str, str]]


@dataclass(slots=True)
class Vital:
    """What a process says of itself. `missing` tells what it waits for; empty: it is ready."""

    connected: Callable[[], bool] = lambda: False
    present: Callable[[], bool] = lambda: False
    beat: float = field(default_factory=monotonic)

    def missing(self) -> str:
        """What keeps it from working."""
        if not self.connected():
            return "there is no connection to the broker"
        return "" if self.present() else "it has not started yet, or stands by"

    def healthz(self, now: float) -> Answer:
        """Whether the event loop moves."""
        idle = now - self.beat
        if idle > STUCK:
            return "503 Service Unavailable", {"status": "stuck", "detail": f"for {idle:.0f} s"}
        return "200 OK", {"status": "ok"}

    def readyz(self) -> Answer:
        """Whether work can be done."""
        if missing := self.missing():
            return "503 Service Unavailable", {"status": "waiting", "detail": missing}
        return "200 OK", {"status": "ready"}


def registry_of(service: str) -> CollectorRegistry:
    """All that a service exports: its own metrics, and those of every Python process."""
    registry = registered(ALL, service)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    BUILD_INFO.set(1, VERSION, platform.python_version())
    return registry


@asynccontextmanager
async def exporting(service: str, place: Place, log: Log) -> AsyncIterator[Vital]:
    """Answer while this runs; what is yielded is to be told how the process is."""
    vital = Vital()
    server = None if place.port == "off" else _listen(service, place.host, place.port, vital, log)
    watching = [asyncio.create_task(_watch(vital))]
    if place.data is not None:
        watching.append(asyncio.create_task(_measure(place.data)))
    try:
        yield vital
    finally:
        for task in watching:
            task.cancel()
        if server is not None:
            await asyncio.to_thread(_close, server)


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request: a probe does not wait for a scrape."""

    daemon_threads = True
    thread: threading.Thread

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without the base's look-up of our own name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: whoever asked went away in the middle, or never asked."""


class _Handler(WSGIRequestHandler):
    """Patient with nobody, and silent."""

    timeout = 5.0

    def log_message(self, format: str, *args: object) -> None:  # the base's name
        """Nothing: a scrape is no event."""


def _listen(service: str, host: str, port: int, vital: Vital, log: Log) -> _Server | None:
    try:
        server = _Server(host, port)
    except OSError as error:
        log.error("metrics.unseen", host=host, port=port, error=error.strerror or str(error))
        return None
    server.set_app(_app(service, vital, _names_of(host)))
    server.thread = threading.Thread(
        target=server.serve_forever, args=(_NOTICE,), name="metrics", daemon=True
    )
    server.thread.start()
    log.info("metrics.listening", host=host, port=server.server_port)
    return server


def _close(server: _Server) -> None:
    server.shutdown()
    server.server_close()


def _names_of(host: str) -> frozenset[str] | None:
    """The hosts that a request may name; None: any, where others than this machine may ask.

    On a loopback address a web page could ask, after rebinding its own name to that address.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return None
    return frozenset({"localhost", "127.0.0.1", "::1", host}) if loopback else None


def _host_of(environ: WSGIEnvironment) -> str:
    """Whom a request names; this machine, where it names nobody, as no browser does."""
    try:
        return urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or "localhost"
    except ValueError:
        return ""


def _app(service: str, vital: Vital, names: frozenset[str] | None) -> WSGIApplication:
    exposition: WSGIApplication = make_wsgi_app(registry_of(service))

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if names is not None and _host_of(environ) not in names:
            status, body = "403 Forbidden", {"status": "foreign_host"}
        elif path == "/metrics":
            return exposition(environ, start)
        elif path == "/healthz":
            status, body = vital.healthz(monotonic())
        elif path == "/readyz":
            status, body = vital.readyz()
        else:
            status, body = "404 Not Found", {"status": "not found"}
        start(status, [("Content-Type", "application/json")])
        return [orjson.dumps(body | {"service": service})]

    return answer


async def _watch(vital: Vital) -> None:
    while True:
        BUS_CONNECTED.set(vital.connected())
        READY.set(not vital.missing())
        before = monotonic()
        await asyncio.sleep(_LOOK)
        vital.beat = monotonic()
        LOOP_LAG.observe(vital.beat - before - _LOOK)


async def _measure(folder: Path) -> None:
    """In a thread, because a disk of the network may not answer; without a folder, nothing."""
    while True:
        try:
            found = await asyncio.to_thread(shutil.disk_usage, folder)
        except OSError:
            DISK_FREE.replace({})
            DISK_SIZE.replace({})
        else:
            DISK_FREE.set(found.free, "data")
            DISK_SIZE.set(found.total, "data")
        await asyncio.sleep(_LOOK_AT_DISK)
