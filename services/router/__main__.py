"""Composition root of the router: `python -m services.router`."""

from __future__ import annotations

import asyncio

from services.router.adapters import metering
from services.router.adapters.bus import BusRescue, Completions, WorkerWatch, routing
from services.router.adapters.queues import Queues
from services.router.adapters.servers import Servers
from services.router.handlers import Router
from services.router.settings import Settings
from shared import clock
from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.bus.service import run_service, running
from shared.models import read_models


def main() -> None:
    """Run the service until it is told to stop."""
    settings = Settings()

    async def compose(bus: Bus, stop: asyncio.Event) -> None:
        models = read_models(settings.models)
        monitors = settings.monitors()
        metering.show(models.models)
        router = Router(models, BusRescue(bus), clock.now, clock.monotonic)
        async with running(
            bus,
            WorkerWatch(bus, router),
            routing(bus, RunLog(bus), router),
            Completions(bus, router),
            Queues(bus),
            Servers(monitors, bus.log),
        ):
            await stop.wait()

    run_service("router", settings, compose)


if __name__ == "__main__":
    main()
