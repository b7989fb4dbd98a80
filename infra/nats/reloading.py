"""Running servers read their users again; connections stay.

Each is asked over the system account and says when it has done so. By SIGHUP nobody would know: of
two signals the second is lost where the first has not been taken, on a machine that stood still for
a moment, say.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from infra.nats.config import MONITOR
from infra.nats.keys import USERS_FOLDER
from shared.bus.connect import Bus, open_bus
from shared.errors import Permanent, Transient
from shared.settings import Address
from shared.telemetry import Log

_PATIENCE = 15.0
_TIMES = 2
"""nats-server 2.15 finds what a new account imports at the second reload (decision record 0040)."""


async def reload(address: Address, folder: Path, count: int, log: Log) -> None:
    """Let `count` servers at an address read their users again, in the name of user `monitor`.

    `folder` holds the users. When this returns, what is in `security.conf` holds.

    Raises:
        Transient: `bus_unavailable`, `request_timeout`: not all of them answer.
        Permanent: `invalid_configuration`: what a server says about its files.
    """
    key = folder / USERS_FOLDER / f"{MONITOR}.nk"
    monitor = Address(address.url, None, key, address.replicas, address.tls)
    try:
        async with asyncio.timeout(_PATIENCE), open_bus(monitor, MONITOR, log) as bus:
            servers = await _servers(bus, count)
            for _ in range(_TIMES):
                for server in servers:
                    await _one(bus, server)
    except TimeoutError as error:
        raise Transient("bus_unavailable", f"no server at {address} lets {key} in") from error


async def _servers(bus: Bus, count: int) -> set[str]:
    """The ids of all of them."""
    found: set[str] = set()
    with bus.replies.open(_PATIENCE) as answers:
        await bus.send("$SYS.REQ.SERVER.PING.IDZ", b"", reply=answers.subject)
        while len(found) < count:
            found.add(orjson.loads((await answers.next()).data)["id"])
    return found


async def _one(bus: Bus, server: str) -> None:
    reply = await bus.request(f"$SYS.REQ.SERVER.{server}.RELOAD", b"", _PATIENCE)
    if error := orjson.loads(reply).get("error"):
        raise Permanent("invalid_configuration", str(error.get("description", error)))
