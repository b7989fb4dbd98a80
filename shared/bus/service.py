"""How a service process lives: settings, connection, start, wait for a signal, stop in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import uvloop
from nats.aio.msg import Msg

from shared.bus import topology
from shared.bus.connect import Bus, open_bus
from shared.errors import MillraceError, Transient
from shared.metrics.exporter import exporting
from shared.settings import BusSettings, masked
from shared.telemetry import Log, configure

_LOOK = 0.5
Main = Callable[[Bus, asyncio.Event], Awaitable[None]]


class Runs(Protocol):
    """Something with a start and a stop."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """End; bounded, also after a failed start."""
        ...


def run_service(name: str, settings: BusSettings, main: Main) -> None:
    """Run `main` until SIGTERM or SIGINT; `--print-settings` prints the settings and ends.

    `main` gets the connection and an event that is set when it has to stop.
    """
    if "--print-settings" in sys.argv[1:]:
        sys.stdout.write(masked(settings) + "\n")
        return
    log = configure(name, settings.log_level, settings.log_format)
    tame_collector()
    try:
        uvloop.run(_run(name, settings, main, log))
    except MillraceError as error:
        log.error("service.failed", code=error.code, detail=error.detail)
        sys.exit(1)


async def _run(name: str, settings: BusSettings, main: Main, log: Log) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with (
        exporting(name, settings.metrics_place(), log) as vital,
        open_bus(settings.address(), name, log) as bus,
    ):
        vital.connected, vital.present = (lambda: bus.nc.is_connected), (lambda: bus.ready)
        await ensure_patiently(bus)
        log.info("service.started")
        await main(bus, stop)
        log.info("service.stopped")


def tame_collector() -> None:
    """What was imported lives for ever: looking at it again and again costs milliseconds a time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def ensure_patiently(bus: Bus, tries: int = 60) -> None:
    """Create the topology, waiting for JetStream to become ready.

    Raises:
        Transient: it did not within `tries` half seconds.
    """
    reason = ""
    for _ in range(tries):
        try:
            await topology.ensure(bus)
        except Transient as error:
            reason = error.detail
            await asyncio.sleep(0.5)
        else:
            return
    raise Transient("bus_unavailable", f"JetStream did not become ready: {reason}")


async def stand_by(bus: Bus, stop: asyncio.Event) -> bool:
    """For a service of which one works at a time: wait until no other one answers (any more).

    Answers whether it is this one's turn; False where it was told to stop meanwhile.
    """
    told = False
    while not stop.is_set():
        try:
            await bus.request(f"health.{bus.name}", b"", 1.0)
        except Transient as error:
            if error.code == "no_responders":
                return True
        if not told:
            bus.log.info("service.stands_by")
            told = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK)
    return False


async def _answer_health(message: Msg) -> None:
    await message.respond(b"ok")


async def _present(bus: Bus) -> None:
    await bus.nc.subscribe(f"health.{bus.name}", queue=bus.name, cb=_answer_health)


@asynccontextmanager
async def running(bus: Bus, *parts: Runs) -> AsyncIterator[None]:
    """Start parts in order; stop them all at once, so that the slowest one bounds the end.

    Those that were started are stopped also after a failed start.
    Once all have started the service answers `health.<name>`: it is ready.
    """
    started: list[Runs] = []
    try:
        for part in parts:
            started.append(part)
            await part.start()
        await _present(bus)
        bus.ready = True
        yield
    finally:
        bus.ready = False
        ended = await asyncio.gather(
            *(part.stop() for part in reversed(started)), return_exceptions=True
        )
        for outcome in ended:
            if isinstance(outcome, BaseException):
                raise outcome
