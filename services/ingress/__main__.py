"""Composition root of the ingress: `python -m services.ingress [--print-settings]`."""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sys
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial

import uvicorn
import uvloop

from services.ingress.adapters.accounts import Accounts, check_account, own_budgets
from services.ingress.adapters.admission import AdmittedCompletions, AdmittedTasks, Gate
from services.ingress.adapters.bus import (
    BusCatalog,
    BusCompletions,
    BusHealth,
    Link,
)
from services.ingress.adapters.housekeeping import BusHousekeeping
from services.ingress.adapters.http.access import Access
from services.ingress.adapters.http.app import Parts, build
from services.ingress.adapters.http.head import Bounds
from services.ingress.adapters.http.middleware import Bodies
from services.ingress.adapters.http.server import HttpProtocol, Server, SocketProtocol
from services.ingress.adapters.http.streams import Streams
from services.ingress.adapters.keyed import BusKeyed
from services.ingress.adapters.keys import BusKeys, KeyRing
from services.ingress.adapters.ledger import BusLedger
from services.ingress.adapters.metered import Metered, MeteredDocuments
from services.ingress.adapters.records import BusRecords
from services.ingress.adapters.schedules import BusSchedules
from services.ingress.adapters.spending import Spending
from services.ingress.handlers.chat import ChatHandlers
from services.ingress.handlers.control import ControlHandlers
from services.ingress.handlers.conversations import ConversationHandlers
from services.ingress.handlers.embeddings import EmbeddingHandlers
from services.ingress.handlers.messages import MessageHandlers
from services.ingress.handlers.responses import ResponseHandlers
from services.ingress.handlers.schedules import ScheduleHandlers
from services.ingress.handlers.tasks import TaskHandlers
from services.ingress.handlers.usage import UsageHandlers
from services.ingress.settings import Settings
from shared.bus.service import tame_collector
from shared.errors import MillraceError
from shared.metrics.exporter import exporting
from shared.models import ModelsFile, read_models
from shared.otlp import live_spans
from shared.settings import masked
from shared.telemetry import Log, configure

_FILES = 65_536
SHUTDOWN_S = 5
"""Seconds for requests in flight when told to stop; tasks go on without us in any case."""


def compose(link: Link, gate: Gate, models: ModelsFile, records: BusRecords) -> Parts:
    """What is connected to what."""
    tasks, catalog = AdmittedTasks(link, gate), BusCatalog(link, models)
    housekeeping, keyed = BusHousekeeping(link), BusKeyed(link)
    completions = Metered(AdmittedCompletions(BusCompletions(link), gate))
    documents = MeteredDocuments(link)
    return Parts(
        chat=ChatHandlers(completions, tasks, catalog, keyed),
        messages=MessageHandlers(completions, tasks, catalog, keyed),
        tasks=TaskHandlers(tasks, catalog, keyed),
        control=ControlHandlers(keyed, check_account),
        responses=ResponseHandlers(tasks, catalog, housekeeping, keyed),
        conversations=ConversationHandlers(tasks, housekeeping, keyed),
        keys=BusKeys(link),
        schedules=ScheduleHandlers(BusSchedules(link), catalog),
        embeddings=EmbeddingHandlers(documents, records, completions, catalog, models.embeddings),
        documents=documents,
        housekeeping=housekeeping,
        usage=UsageHandlers(BusLedger(link), models.currency, own_budgets),
        catalog=catalog,
        health=BusHealth(link),
    )


async def serve(settings: Settings, log: Log) -> None:
    """Listen until told to stop; the bus may come and go meanwhile."""
    link, live = Link(log), live_spans()
    models = read_models(settings.models)
    gate = Gate(link, settings.queue_limit, log)
    ring, records = KeyRing(link, log), BusRecords(link, log)
    accounts = Accounts(ring, settings.allowance())
    spending = Spending(link, accounts, log, ring.changed)
    parts = replace(compose(link, gate, models, records), spans=live.spans if live else None)
    streams = Streams(settings.heartbeat, settings.viewer_patience)
    guard = partial(Access, ring=ring, accounts=accounts)
    app = build(
        parts,
        host=settings.http_host,
        bodies=Bodies(settings.body_limit, settings.body_timeout, settings.http_body_memory),
        streams=streams,
        guard=guard if settings.auth == "keys" else None,
        note=records.refused,
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
    keys = settings.auth == "keys"
    follow = ring.open() if keys else nullcontext()
    count = spending.open() if keys else nullcontext()
    show = exporting("ingress", settings.metrics_place(), log)
    async with (
        show as vital,
        link.open(settings.address),
        follow,
        count,
        gate.open(),
        records.open(),
    ):
        vital.connected = vital.present = link.up
        log.info("ingress.listening", host=settings.http_host, port=settings.http_port)
        await Server(config, streams, Bounds(seconds=settings.head_timeout)).serve()
    if live is not None:
        await live.close()
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
    log = configure("ingress", settings.log_level, settings.log_format)
    try:
        settings.check_auth()
        settings.check_room()
        allow_many_connections()
        tame_collector()
        uvloop.run(serve(settings, log))
    except MillraceError as error:
        log.error("ingress.stopped", code=error.code, detail=error.detail)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
