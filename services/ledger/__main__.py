"""Composition root of the ledger: `python -m services.ledger [--rebuild [--forget]]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.ledger.adapters.log import BusLog
from services.ledger.adapters.sql import SqlStore
from services.ledger.handlers.questions import Queries
from services.ledger.handlers.recording import Recorder
from services.ledger.handlers.replaying import Rebuilder, catch_up, rebuild
from services.ledger.settings import LedgerSettings
from shared.bus.connect import Bus, open_bus
from shared.bus.consume import Consuming, Delivery, Job
from shared.bus.edge import answer, make_broker
from shared.bus.service import run_service, running
from shared.contracts.base import Message
from shared.contracts.ledger import (
    LedgerQuery,
    LedgerState,
    RebuildLedger,
    RequestsQuery,
    RequestsReply,
    SessionsQuery,
    SessionsReply,
    TasksQuery,
    TasksReply,
    UsageQuery,
    UsageReply,
)
from shared.contracts.log import StoredFact, read_fact
from shared.errors import Failure, MillraceError
from shared.subjects import (
    LEDGER,
    LEDGER_REBUILD,
    LEDGER_REQUESTS,
    LEDGER_SESSIONS,
    LEDGER_STATE,
    LEDGER_TASKS,
    LEDGER_USAGE,
)
from shared.telemetry import Log, configure

CONCURRENCY = 256
"""Facts in flight, and so the most that one transaction holds while the log is live."""


async def serve(settings: LedgerSettings, bus: Bus, stop: asyncio.Event) -> None:
    """Catch up, then project facts and answer questions until told to stop."""
    reading = BusLog(bus)
    async with opened(settings) as store, recording(store, bus.log) as recorder:
        bus.log.info("ledger.caught_up", facts=await catch_up(store, reading))
        questions = Queries(store, reading)
        rebuilder = Rebuilder(store, reading, lambda error: not_rebuilt(bus.log, error))
        broker = make_broker(settings.address(), "ledger", bus.denials)
        consuming = Consuming(bus, project(recorder), CONCURRENCY)
        answer(broker, bus, LEDGER_TASKS, TasksQuery, questions.tasks, no_tasks)
        answer(broker, bus, LEDGER_SESSIONS, SessionsQuery, questions.sessions, no_sessions)
        answer(broker, bus, LEDGER_REQUESTS, RequestsQuery, questions.requests, no_requests)
        answer(broker, bus, LEDGER_USAGE, UsageQuery, questions.usage, no_usage)
        answer(broker, bus, LEDGER_STATE, LedgerQuery, questions.state, no_state)
        answer(broker, bus, LEDGER_REBUILD, RebuildLedger, rebuilder.rebuild, no_state)
        async with running(bus, broker, consuming):
            bus.log.info("ledger.ready")
            await stop.wait()
            await rebuilder.close()


async def replay(settings: LedgerSettings, log: Log, *, forget: bool) -> None:
    """Drop the tables' rows and read the whole log again."""
    async with (
        open_bus(settings.address(), "ledger-rebuild", log) as bus,
        opened(settings) as store,
    ):
        log.info("ledger.rebuilt", facts=await rebuild(store, BusLog(bus), forget=forget))


@asynccontextmanager
async def opened(settings: LedgerSettings) -> AsyncIterator[SqlStore]:
    """The store, closed at the end."""
    store = SqlStore(settings.url())
    try:
        await store.open()
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def recording(store: SqlStore, log: Log) -> AsyncIterator[Recorder]:
    """The writer, stopped before its store."""

    def waits(code: str, delay: float) -> None:
        log.warning("ledger.waits", code=code, delay=delay)

    recorder = Recorder(store, waits)
    try:
        yield recorder
    finally:
        await recorder.close()


def project(recorder: Recorder) -> Job[StoredFact | None]:
    """What to do with the messages of consumer LEDGER."""

    async def handle(fact: StoredFact | None) -> tuple[Message, ...]:
        if fact is not None:
            await recorder.record(fact)
        return ()

    async def emit(_fact: StoredFact | None, _results: object) -> None:
        """The ledger publishes nothing."""

    return Job(LEDGER, read, handle, emit)


def read(delivery: Delivery) -> StoredFact | None:
    """A delivery as a fact; None for a kind that this release does not know."""
    return read_fact(
        delivery.subject, delivery.body, delivery.sequence, delivery.time, delivery.headers
    )


def no_tasks(failure: Failure) -> TasksReply:
    """The refusal of a question about tasks."""
    return TasksReply(error=failure)


def no_sessions(failure: Failure) -> SessionsReply:
    """The refusal of a question about sessions."""
    return SessionsReply(error=failure)


def no_requests(failure: Failure) -> RequestsReply:
    """The refusal of a question about requests."""
    return RequestsReply(error=failure)


def no_state(failure: Failure) -> LedgerState:
    """The refusal to say how things are, or to rebuild."""
    return LedgerState(error=failure)


def not_rebuilt(log: Log, error: MillraceError) -> None:
    """A rebuild stopped; the next start or order goes on with it."""
    log.warning("ledger.not_rebuilt", code=error.code, detail=error.detail)


def no_usage(failure: Failure) -> UsageReply:
    """The refusal of a question about usage."""
    return UsageReply(error=failure)


def main() -> int:
    """Run the service, or rebuild its tables."""
    parser = argparse.ArgumentParser(prog="services.ledger", description=__doc__)
    parser.add_argument("--print-settings", action="store_true", help="print them, masked")
    parser.add_argument("--rebuild", action="store_true", help="drop all rows, replay the log")
    parser.add_argument("--forget", action="store_true", help="even if the log was shortened")
    chosen = parser.parse_args()
    settings = LedgerSettings()
    if not chosen.rebuild:
        run_service("ledger", settings, partial(serve, settings))
        return 0
    log = configure("ledger", settings.log_level, settings.log_format)
    try:
        asyncio.run(replay(settings, log, forget=chosen.forget))
    except MillraceError as error:
        not_rebuilt(log, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
