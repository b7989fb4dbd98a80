"""Composition root of the ingress: `python -m services.ingress [--print-settings]`."""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial

import uvicorn
import uvloop

from services.ingress.adapters.admission import AdmittedCompletions, AdmittedTasks, Gate
from services.ingress.adapters.bus import (
    BusCatalog,
    BusCompletions,
    BusDocuments,
    BusHealth,
    Link,
)
from services.ingress.adapters.housekeeping import BusHousekeeping
from services.ingress.adapters.http.access import Access
from services.ingress.adapters.http.app import Parts, build
from services.ingress.adapters.http.head import Bounds
from services.ingress.adapters.http.server import HttpProtocol, Server, SocketProtocol
from services.ingress.adapters.http.streams import Streams
from services.ingress.adapters.keyed import BusKeyed
from services.ingress.adapters.keys import BusKeys, KeyRing
from services.ingress.adapters.ledger import BusLedger
from services.ingress.adapters.metered import Metered
from services.ingress.adapters.schedules import BusSchedules
from services.ingress.handlers.chat import ChatHandlers
from services.ingress.handlers.control import ControlHandlers
from services.ingress.handlers.conversations import ConversationHandlers
from services.ingress.handlers.messages import MessageHandlers
from services.ingress.handlers.responses import ResponseHandlers
from services.ingress.handlers.schedules import ScheduleHandlers
from services.ingress.handlers.tasks import TaskHandlers
from services.ingress.handlers.usage import UsageHandlers
from services.ingress.settings import Settings
from shared.bus.service import tame_collector
from shared.errors import MillraceError
from shared.models import read_models
from shared.settings import masked
from shared.telemetry import Log, configure

_FILES = 65_536
SHUTDOWN_S = 5
"""Seconds for requests in flight when told to stop; tasks go on without us in any case."""


def compose(link: Link, gate: Gate, routes: Sequence[str], currency: str = "USD") -> Parts:
    """What is connected to what."""
    tasks, catalog = AdmittedTasks(link, gate), BusCatalog(link, routes)
    housekeeping, keyed = BusHousekeeping(link), BusKeyed(link)
    completions = AdmittedCompletions(Metered(BusCompletions(link)), gate)
    return Parts(
        chat=ChatHandlers(completions, tasks, catalog, keyed),
        messages=MessageHandlers(completions, tasks, catalog, keyed),
        tasks=TaskHandlers(tasks, catalog, keyed),
        control=ControlHandlers(keyed),
        responses=ResponseHandlers(tasks, catalog, housekeeping, keyed),
        conversations=ConversationHandlers(tasks, housekeeping, keyed),
        keys=BusKeys(link),
        schedules=ScheduleHandlers(BusSchedules(link), catalog),
        documents=BusDocuments(link),
        housekeeping=housekeeping,
        usage=UsageHandlers(BusLedger(link), currency),
        catalog=catalog,
        health=BusHealth(link),
    )


async def serve(settings: Settings, log: Log) -> None:
    """Listen until told to stop; the bus may come and go meanwhile."""
    link = Link(log)
    models = read_models(settings.models)
    gate = Gate(link, settings.queue_limit, log)
    parts = compose(link, gate, tuple(models.routes), models.currency)
    ring = KeyRing(link, log)
    streams = Streams(settings.heartbeat, settings.viewer_patience)
    guard = partial(Access, ring=ring, defaults=settings.allowance())
    app = build(
        parts,
        host=settings.http_host,
        body_limit=settings.body_limit,
        body_timeout=settings.body_timeout,
        streams=streams,
        guard=guard if settings.auth == "keys" else None,
    )
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        http=HttpProtocol,
        ws=SocketProtocol,
        ws_max_size=settings.body_limit,
        ws_per_message_deflate=False,
        ws_ping_interval=settings.heartbeat,
        ws_ping_timeout=settings.viewer_patience,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    keep_alive_through_shutdown()
    follow = ring.open() if settings.auth == "keys" else nullcontext()
    async with link.open(settings.address), follow, gate.open():
        log.info("ingress.listening", host=settings.http_host, port=settings.http_port)
        await Server(config, streams, Bounds(seconds=settings.head_timeout)).serve()
    log.info("ingress.stopped")


def allow_many_connections() -> None:
    """As many open files as we may have: a viewer is one, and the default is a thousand."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(most, _FILES)
    if now < wanted:
        with suppress(ValueError, OSError):  # a system with a limit that it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def keep_alive_through_shutdown() -> None:
    """uvicorn repeats the signal that stopped it; without a handler that would end us at once."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: None)


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="services.ingress", description=__doc__)
    parser.add_argument("--print-settings", action="store_true", help="print them, masked")
    chosen = parser.parse_args()
    settings = Settings()
    if chosen.print_settings:
        sys.stdout.write(masked(settings) + "\n")
        return 0
    log = configure("ingress", settings.log_level)
    try:
        settings.check_auth()
        allow_many_connections()
        tame_collector()
        uvloop.run(serve(settings, log))
    except MillraceError as error:
        log.error("ingress.stopped", code=error.code, detail=error.detail)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
