"""The loop with the keys of the permission table, and two clients of one tenant: the operator's,

which reads the streams, and the tenant's own, which asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.bus import topology
from shared.client import Millrace
from shared.settings import Address
from tests.integration import secured_server
from tests.integration.running_loop import Loop
from tests.integration.secured_server import Secured


class SecuredLoop(Loop):
    """Every part with its own service's key."""

    secured: Secured

    def address(self, name: str) -> Address:
        part = name.rstrip("0123456789")
        return self.secured.address("inference" if part == "w" else part)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a test gets."""

    secured: Secured
    loop: SecuredLoop
    operator: Millrace
    tenant: Millrace
    other: Millrace


@asynccontextmanager
async def asked_system(folder: Path, *, started: bool = True) -> AsyncIterator[Asked]:
    """A running loop; `acme` and `other` have clients of their own."""
    secured = await asyncio.to_thread(secured_server.start, folder)
    try:
        async with AsyncExitStack() as stack:
            admin, acme, other = [
                await stack.enter_async_context(secured.connected(user))
                for user in ("admin", "tenant-acme", "tenant-other")
            ]
            await topology.ensure(admin)
            loop = SecuredLoop(secured.server, folder, admin)
            loop.secured = secured
            stack.push_async_callback(loop.end)
            if started:
                await loop.all()
            clients = Millrace(admin, "acme"), Millrace(acme), Millrace(other)
            yield Asked(secured, loop, *clients)
    finally:
        secured.server.kill()
