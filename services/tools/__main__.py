"""Composition root of the tools service: `python -m services.tools [--print-settings]`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from services.tools.adapters import metering
from services.tools.adapters.builtin import Builtin
from services.tools.adapters.knowledge import BusKnowledge
from services.tools.adapters.kv import BucketMemory, BucketSpecs
from services.tools.adapters.promises import LogPromises
from services.tools.core.registry import Registry
from services.tools.handlers import Assignment, Handlers
from services.tools.settings import ToolsSettings
from shared import clock
from shared.bus.connect import Bus
from shared.bus.consume import Delivery, Job, doubtful
from shared.bus.edge import make_broker, subscribe
from shared.bus.log import RunLog
from shared.bus.service import run_service, running
from shared.contracts.base import Message, decode
from shared.contracts.work import RunTool
from shared.subjects import TOOLS

CONCURRENCY = 64


async def serve(settings: ToolsSettings, bus: Bus, stop: asyncio.Event) -> None:
    """Announce the tools, then run calls until told to stop."""
    builtin = Builtin(BusKnowledge(bus), BucketMemory(bus), clock.utc, settings.min_score)
    registry = Registry(builtin.tools())
    await BucketSpecs(bus).publish(registry.specs())
    metering.show(spec.name for spec in registry.specs())
    log = RunLog(bus)
    handlers = Handlers(registry, LogPromises(log), clock.monotonic)
    broker = make_broker(settings.address(), "tools", bus.denials)
    subscribe(broker, bus, execute(handlers, log), CONCURRENCY)
    async with running(bus, broker):
        bus.log.info("tools.ready")
        await stop.wait()


def execute(handlers: Handlers, runs: RunLog) -> Job[Assignment]:
    """What to do with the messages of consumer TOOLS: run the call, append its fact."""

    async def emit(job: Assignment, results: Sequence[Message]) -> None:
        for fact in results:
            await runs.append(job.work.ref, fact)
        metering.ran(results)

    return Job(TOOLS, reader(clock.mint_id("tools")), handlers.run, emit, handlers.give_up)


def reader(process: str) -> Callable[[Delivery], Assignment]:
    """Reads deliveries of WORK as tool calls, each named as no other delivery ever is."""

    def read(delivery: Delivery) -> Assignment:
        work = decode(delivery.body, RunTool)
        name = f"{process}.{delivery.sequence}.{delivery.deliveries}.{delivery.time:.6f}"
        again = doubtful(delivery, work.asked, clock.now())
        return Assignment(work, work.attempt + delivery.deliveries - 1, name, delivery.time, again)

    return read


def main() -> None:
    """Run the service."""
    settings = ToolsSettings()
    run_service("tools", settings, partial(serve, settings))


if __name__ == "__main__":
    main()
