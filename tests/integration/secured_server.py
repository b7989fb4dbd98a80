"""A server with all users of the permission table, and connections as any of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import nats.errors

from infra.local.secured import INCLUDE
from infra.nats.keys import ensure_tenant, write_security
from infra.nats.topology import deploy
from shared.bus.connect import Bus, open_bus
from shared.bus.denials import Denied
from shared.settings import Address
from shared.telemetry import configure
from tests.integration.broker_process import NatsServer

TENANTS = ("acme", "other")
SILENT = configure("test", "critical")


@dataclass(frozen=True, slots=True)
class Secured:
    """The server and its keys."""

    server: NatsServer
    folder: Path

    def address(self, user: str) -> Address:
        return Address(self.server.url, None, self.folder / "users" / f"{user}.nk")

    @asynccontextmanager
    async def connected(self, user: str) -> AsyncIterator[Bus]:
        """In the name of a user."""
        async with open_bus(self.address(user), user, SILENT) as bus:
            yield bus


def start(folder: Path) -> Secured:
    """A server that holds the topology, made with the operator's key."""
    for tenant in TENANTS:
        ensure_tenant(folder, tenant)
    write_security(folder)
    server = NatsServer(folder, INCLUDE)
    server.start()
    secured = Secured(server, folder)
    asyncio.run(deploy(secured.address("admin"), SILENT))
    return secured


async def denied_publications(bus: Bus, subjects: Iterable[str]) -> set[str]:
    """Which of the subjects the server refuses."""
    wanted = {subject.lower(): subject for subject in subjects}
    heard = Refusals(bus)
    for subject in wanted.values():
        await bus.nc.publish(subject, b"{}")
    return {wanted[one.subject] for one in await heard.all() if one.operation == "publish"}


async def denied_subscriptions(bus: Bus, subjects: Iterable[str]) -> set[str]:
    """Which of the subjects the server lets nobody hear."""
    wanted = {subject.lower(): subject for subject in subjects}
    heard = Refusals(bus)
    made = [await bus.nc.subscribe(subject) for subject in wanted.values()]
    found = {wanted[one.subject] for one in await heard.all() if one.operation == "subscribe"}
    for one in made:
        with suppress(nats.errors.Error):
            await one.unsubscribe()
    return found


class Refusals:
    """What a connection is refused from now on."""

    _LAST = "nobody.may.publish.this"

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._heard: list[Denied] = []
        self._over = asyncio.Event()
        bus.denials.listen(self._take)

    def _take(self, denied: Denied) -> None:
        if denied.subject == self._LAST:
            self._over.set()
        else:
            self._heard.append(denied)

    async def all(self) -> list[Denied]:
        """A last one that is sure to be refused: the server answers in order."""
        await self._bus.nc.publish(self._LAST, b"")
        await asyncio.wait_for(self._over.wait(), 20)
        return self._heard
