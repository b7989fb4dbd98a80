"""The deploy step: with the operator's key, everything in the subject table is made.

A single server forgets what it held in memory when it restarts, and services may not make streams:
so somebody stays connected and makes them anew. `make run` does, with a broker of its own or not.
Where there are other sites, it joins the streams to them and follows the links.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from infra.nats.joining import Neighbours
from infra.nats.links import follow
from infra.watching import under_watch
from shared.bus import topology
from shared.bus.connect import Bus, open_bus
from shared.bus.service import ensure_patiently
from shared.errors import MillraceError
from shared.metrics.exporter import Vital, exporting
from shared.settings import Address, BusSettings
from shared.subjects.permissions import ADMIN
from shared.telemetry import Log

_AGAIN = 1.0


async def deploy(address: Address, log: Log, others: Neighbours | None = None) -> None:
    """Make what is missing, bring the rest up to its row, and join it to the others' streams.

    Raises:
        Transient: `bus_unavailable`.
        Broken: `permission_denied`, for a user without the right.
    """
    async with open_bus(address, ADMIN, log) as bus:
        await ensure_patiently(bus)
        if others is not None:
            await others.join(bus)


async def keep(address: Address, log: Log, vital: Vital | None = None) -> None:
    """Make everything now and after every reconnect, until this is cancelled.

    `vital` is told how it is: ready once everything has been made.
    """
    shown = vital or Vital()
    async with open_bus(address, ADMIN, log) as bus:
        shown.connected, shown.present = (lambda: bus.nc.is_connected), (lambda: bus.ready)
        lost = asyncio.Event()

        async def reconnected() -> None:
            lost.set()

        bus.on_reconnect(reconnected)
        lost.set()
        while True:
            await lost.wait()
            lost.clear()
            await _ensure(bus, lost)


async def keep_joined(
    address: Address, log: Log, others: Neighbours, vital: Vital | None = None
) -> None:
    """As `keep`; and join the streams to the others', also after a link was lost."""
    following = follow(address, others.monitors, others.join, log)
    await under_watch(keep(address, log, vital), [following])


async def run(settings: BusSettings, log: Log, others: Neighbours | None = None) -> None:
    """As a program of its own: until a signal asks for the end, with a port that says how it is.

    Raises:
        Permanent: `invalid_credentials`, `invalid_tls`, `untrusted_server`.
    """
    keeping = asyncio.create_task(_shown(settings, log, others))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, keeping.cancel)
    with suppress(asyncio.CancelledError):
        await keeping


async def _shown(settings: BusSettings, log: Log, others: Neighbours | None) -> None:
    async with exporting("topology", settings.metrics_place(), log) as vital:
        if others is None:
            await keep(settings.address(), log, vital)
        else:
            await keep_joined(settings.address(), log, others, vital)


async def _ensure(bus: Bus, lost: asyncio.Event) -> None:
    try:
        await topology.ensure(bus)
    except MillraceError as error:
        bus.ready = False
        bus.log.warning("topology.retry", error=str(error))
        await asyncio.sleep(_AGAIN)
        lost.set()
    else:
        bus.ready = True
