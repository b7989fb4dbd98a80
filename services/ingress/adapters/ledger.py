"""Port `Ledger` over the bus."""

from __future__ import annotations

from services.ingress.adapters.bus import Link
from shared.contracts.base import Message
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
from shared.documents import ask
from shared.subjects import LEDGER_REQUESTS, LEDGER_SESSIONS, LEDGER_TASKS, LEDGER_USAGE

_PATIENCE = 15.0
"""Seconds beyond those that a question is willing to wait itself."""

Question = TasksQuery | SessionsQuery | RequestsQuery | UsageQuery


class BusLedger:
    """The ledger of a running system."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def usage(self, query: UsageQuery) -> UsageReply:
        """Tokens and money, grouped."""
        return await self._ask(LEDGER_USAGE, query, UsageReply)

    async def requests(self, query: RequestsQuery) -> RequestsReply:
        """Tasks and completions."""
        return await self._ask(LEDGER_REQUESTS, query, RequestsReply)

    async def sessions(self, query: SessionsQuery) -> SessionsReply:
        """Sessions."""
        return await self._ask(LEDGER_SESSIONS, query, SessionsReply)

    async def tasks(self, query: TasksQuery) -> TasksReply:
        """Tasks."""
        return await self._ask(LEDGER_TASKS, query, TasksReply)

    async def _ask[A: Message](self, subject: str, query: Question, kind: type[A]) -> A:
        bus = self._link.client(query.tenant).bus
        return await ask(bus, subject, query, kind, query.patience_s + _PATIENCE)
