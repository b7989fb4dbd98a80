"""What the ingress itself writes into the log: embeddings, and requests that came to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar

from services.ingress.adapters.bus import Link
from services.ingress.core.access.refusals import Kind, Tallies, Tally
from shared.clock import mint_id, now
from shared.contracts.base import Message, SessionRef
from shared.contracts.facts import Completed, Refused
from shared.errors import MillraceError
from shared.subjects import DIRECT_SESSION
from shared.telemetry import Log

_LOOK = 1.0
_PATIENCE = 5.0
_LAST_WORD = 2.0
"""Seconds to write down what is not told yet, when the server stops."""


class Journal:
    """Who has one request now. Once a worker or a session has it, they write down its end."""

    __slots__ = ("handed",)

    def __init__(self) -> None:
        self.handed = False


JOURNAL: ContextVar[Journal | None] = ContextVar("millrace_journal", default=None)


def handed_on() -> None:
    """The request of this context has been taken over by one that writes down what comes of it."""
    journal = JOURNAL.get()
    if journal is not None:
        journal.handed = True


class BusRecords:
    """Port `Records`, and what is refused meanwhile."""

    def __init__(self, link: Link, log: Log) -> None:
        self._link, self._log = link, log
        self._tallies = Tallies()

    async def used(self, tenant: str, fact: Completed, trace_id: str) -> None:
        """Durable when this returns.

        Raises:
            Transient: `bus_unavailable`.
        """
        await self._append(tenant, fact, trace_id)

    def refused(self, kind: Kind, trace_id: str) -> None:
        """Count it; it is told soon."""
        self._tallies.note(kind, now(), trace_id)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Write meanwhile, and the rest at the end."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORD):
                    await self._tell(self._tallies.due(now(), every=True))

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            await self._tell(self._tallies.due(now()))

    async def _tell(self, found: list[tuple[Kind, Tally]]) -> None:
        for kind, tally in found:
            fact = Refused(
                id=mint_id("ref"),
                code=kind.code,
                status=kind.status,
                route=kind.route,
                count=tally.count,
                since=tally.since,
                until=tally.until,
                key=kind.key,
            )
            try:
                await self._append(kind.tenant, fact, tally.trace_id)
            except MillraceError as error:
                self._tallies.keep(kind, tally)
                self._log.info("ingress.refusals_wait", count=tally.count, error=error.code)

    async def _append(self, tenant: str, fact: Message, trace_id: str) -> None:
        log = self._link.client(tenant).log
        ref = SessionRef(tenant, DIRECT_SESSION)
        await log.append(ref, fact, trace_id=trace_id, patience=_PATIENCE)
