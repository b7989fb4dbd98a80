"""Composition root of sessions: `python -m services.sessions`."""

from __future__ import annotations

import asyncio

from services.sessions.adapters.agents import KvAgents
from services.sessions.adapters.asks import Asks
from services.sessions.adapters.control import Control, timers
from services.sessions.adapters.deletion import Deletion
from services.sessions.adapters.effects import BusEffects
from services.sessions.adapters.owner import Owner
from services.sessions.adapters.replays import Replays
from services.sessions.adapters.snapshots import SessionLog
from services.sessions.adapters.undertaker import Undertaker
from services.sessions.adapters.unkept import Forgetting
from services.sessions.handlers import Bounds, Sessions
from services.sessions.settings import Settings
from shared import clock
from shared.bus.connect import Bus
from shared.bus.desk import Desk
from shared.bus.log import RunLog
from shared.bus.service import run_service, running


def main() -> None:
    """Run the service until it is told to stop."""
    settings = Settings()

    async def compose(bus: Bus, stop: asyncio.Event) -> None:
        log = RunLog(bus)
        agents = KvAgents(bus)
        await agents.start(settings.agents)
        bounds = Bounds(snapshot_every=settings.snapshot_every)
        effects = BusEffects(bus, log)
        sessions = Sessions(SessionLog(bus), effects, agents, clock.now, bus.log, bounds)
        await Control(bus, sessions).start()
        await Replays(bus, log).start()
        deletion = Deletion(bus)
        fired = timers(bus, sessions, Forgetting(bus, deletion))
        desk = Desk(bus, Asks(bus, log).answers())
        parts = (Owner(bus, sessions), fired, deletion, Undertaker(bus), desk)
        async with running(bus, *parts):
            await stop.wait()

    run_service("sessions", settings, compose)


if __name__ == "__main__":
    main()
