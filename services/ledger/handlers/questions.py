"""Answers of the ledger; errors travel in the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from services.ledger.ports import FactLog, LedgerStore, Position
from shared.contracts.facts import Usage
from shared.contracts.ledger import (
    LedgerQuery,
    LedgerState,
    RequestsQuery,
    RequestsReply,
    SessionsQuery,
    SessionsReply,
    TasksQuery,
    TasksReply,
    UsageQuery,
    UsageReply,
    UsageSummary,
)
from shared.errors import Permanent, Transient

MAX_ROWS, LAST = 500, 2**63 - 1
LONGEST_PATIENCE, LOOK_EVERY = 60.0, 0.03


class _Patient(Protocol):
    @property
    def min_seq(self) -> int: ...

    @property
    def patience_s(self) -> float: ...


class Queries:
    """The questions; the log says how much of it has been applied."""

    def __init__(self, store: LedgerStore, log: FactLog) -> None:
        self._store, self._log = store, log

    async def tasks(self, query: TasksQuery) -> TasksReply:
        """Recent tasks of a tenant.

        Raises:
            Permanent: `invalid_limit`, `invalid_cursor`.
            Transient: `ledger_behind`, like all that follow.
        """
        await self._ready(query, query.limit, query.before)
        before = await self._store.position()
        found = await self._store.tasks(query)
        sequence, rebuilding = await self._since(before)
        return TasksReply(tasks=found, sequence=sequence, rebuilding=rebuilding)

    async def sessions(self, query: SessionsQuery) -> SessionsReply:
        """Sessions of a tenant."""
        await self._ready(query, query.limit, query.before)
        before = await self._store.position()
        found = await self._store.sessions(query)
        sequence, rebuilding = await self._since(before)
        return SessionsReply(sessions=found, sequence=sequence, rebuilding=rebuilding)

    async def requests(self, query: RequestsQuery) -> RequestsReply:
        """The request log of a tenant."""
        await self._ready(query, query.limit, query.before)
        before = await self._store.position()
        found = await self._store.requests(query)
        sequence, rebuilding = await self._since(before)
        return RequestsReply(requests=found, sequence=sequence, rebuilding=rebuilding)

    async def usage(self, query: UsageQuery) -> UsageReply:
        """Usage of a tenant, grouped; the total runs over all groups, shown or not."""
        await self._ready(query, query.limit, query.offset)
        whole = replace(query, keys=("tenant",), offset=0, limit=1)
        before = await self._store.position()
        found = await self._store.usage(replace(query, limit=query.limit + 1))
        sums = await self._store.usage(whole)
        sequence, rebuilding = await self._since(before)
        more = len(found) > query.limit
        ordered = query.grouping == ("day",)
        shown = found[-query.limit :] if ordered else found[: query.limit]
        return UsageReply(
            rows=shown,
            total=replace(sums[0], key="total", names={}) if sums else total(()),
            sequence=sequence,
            more=more,
            rebuilding=rebuilding,
        )

    async def _since(self, before: Position) -> tuple[int, bool]:
        """How far the rows are that were read since, and whether some of them may be missing."""
        now = await self._store.position()
        return now.sequence, before.replaying or now.replaying

    async def state(self, query: LedgerQuery) -> LedgerState:
        """How far the projection is."""
        await self._wait(query)
        position = await self._store.position()
        settled, _ = await self._log.unsettled()
        return LedgerState(
            sequence=position.sequence,
            settled=settled - 1,
            replaying=position.replaying,
            replay_from=position.replay_from,
            replay_until=position.replay_until or 0,
        )

    async def _ready(self, query: _Patient, limit: int, cursor: int) -> None:
        if not 1 <= limit <= MAX_ROWS:
            raise Permanent(
                "invalid_limit", f"limit must be 1 to {MAX_ROWS}, not {limit}", field="limit"
            )
        if not 0 <= cursor <= LAST:
            raise Permanent("invalid_cursor", f"before is 0 to {LAST}", field="before")
        await self._wait(query)

    async def _wait(self, query: _Patient) -> None:
        """Until everything up to `min_seq` is acknowledged, which happens after its commit.

        The highest sequence applied would not do: deliveries overtake one another.

        Raises:
            Permanent: `invalid_cursor` for what is beyond the end of the log.
            Transient: `ledger_behind`.
        """
        if not query.min_seq or (await self._log.unsettled())[0] > query.min_seq:
            return
        _, last = await self._log.bounds()
        if query.min_seq > last:
            raise Permanent(
                "invalid_cursor",
                f"the log ends at {last}: nobody has written {query.min_seq} yet",
                field="min_seq",
            )
        patience = min(max(0.0, query.patience_s), LONGEST_PATIENCE)
        waited = 0.0
        while (await self._log.unsettled())[0] <= query.min_seq:
            if waited >= patience:
                raise Transient(
                    "ledger_behind",
                    f"the ledger has not applied sequence {query.min_seq} yet",
                    retry_after=1.0,
                )
            await asyncio.sleep(LOOK_EVERY)
            waited += LOOK_EVERY


def total(rows: Sequence[UsageSummary]) -> UsageSummary:
    """The sum over all groups, without times: percentiles do not add up."""
    usage = Usage()
    for row in rows:
        usage += row.usage
    calls, price = sum(row.calls for row in rows), sum(row.price for row in rows)
    return UsageSummary(key="total", calls=calls, usage=usage, price=price)
