"""The ledger's own answers over the eventful log, without a bus and a database."""

from __future__ import annotations

from services.ledger.adapters.memory import MemoryLog, MemoryStore
from services.ledger.core import changes_of
from services.ledger.handlers.questions import Queries
from shared.contracts.ledger import (
    RequestsQuery,
    RequestsReply,
    SessionsQuery,
    SessionsReply,
    TasksQuery,
    TasksReply,
    UsageQuery,
    UsageReply,
)
from tests.fakes.ledger_log import eventful


class FakeLedger:
    """The ingress's port `Ledger`. The last fact is applied and not acknowledged yet."""

    def __init__(self) -> None:
        self.store, self.facts = MemoryStore(), eventful()
        last = self.facts[-1].seq
        self._queries = Queries(self.store, MemoryLog(self.facts, in_flight=(last, last)))
        self._fed = False

    async def _ready(self) -> Queries:
        if not self._fed:
            changes = [change for fact in self.facts for change in changes_of(fact)]
            await self.store.apply(changes, self.facts[-1].seq)
            self._fed = True
        return self._queries

    async def usage(self, query: UsageQuery) -> UsageReply:
        return await (await self._ready()).usage(query)

    async def requests(self, query: RequestsQuery) -> RequestsReply:
        return await (await self._ready()).requests(query)

    async def sessions(self, query: SessionsQuery) -> SessionsReply:
        return await (await self._ready()).sessions(query)

    async def tasks(self, query: TasksQuery) -> TasksReply:
        return await (await self._ready()).tasks(query)
