"""`/v1/usage`, `/v1/requests` and the lists: the ledger's answers in the caller's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.ingress.core.access.budgets import Budget
from services.ingress.core.access.caller import Caller
from services.ingress.core.books.usage import (
    page_json,
    request_json,
    session_json,
    task_json,
    usage_csv,
    usage_json,
)
from services.ingress.core.tasks.state import Json
from services.ingress.ports import Ledger
from shared.contracts.ledger import RequestsQuery, SessionsQuery, TasksQuery, UsageQuery
from shared.errors import Permanent


@dataclass(frozen=True, slots=True)
class UsageHandlers:
    """Every query carries the tenant of its caller, whose `budgets` are shown beside the answer.

    `currency` is that of the models file.
    """

    ledger: Ledger
    currency: str
    budgets: Callable[[], Sequence[Budget]] = tuple

    async def usage(self, query: UsageQuery) -> Json:
        """Groups and their total."""
        reply = await self.ledger.usage(query)
        return usage_json(reply, query.grouping, self.currency, self.budgets())

    async def usage_csv(self, query: UsageQuery) -> str:
        """The groups as CSV."""
        return usage_csv(await self.ledger.usage(query), query.grouping, self.currency)

    async def requests(self, query: RequestsQuery) -> Json:
        """A page of the request log."""
        reply = await self.ledger.requests(query)
        rows = [request_json(line, self.currency) for line in reply.requests]
        return page_json("requests", rows, query.limit, reply)

    async def request(self, caller: Caller, name: str, session: str | None) -> Json:
        """One request.

        Raises:
            Permanent: `unknown_request`.
        """
        query = RequestsQuery(tenant=caller.tenant, id=name, session=session, limit=1)
        for line in (await self.ledger.requests(query)).requests:
            return request_json(line, self.currency)
        raise Permanent("unknown_request", f"there is no request {name[:80]!r}")

    async def sessions(self, query: SessionsQuery) -> Json:
        """A page of sessions."""
        reply = await self.ledger.sessions(query)
        rows = [session_json(one) for one in reply.sessions]
        return page_json("sessions", rows, query.limit, reply)

    async def tasks(self, query: TasksQuery) -> Json:
        """A page of tasks."""
        reply = await self.ledger.tasks(query)
        rows = [task_json(one, self.currency) for one in reply.tasks]
        return page_json("tasks", rows, query.limit, reply)
