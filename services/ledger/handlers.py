"""What the ledger does with a fact, a question and a replay.

Facts arrive one by one and are written in groups: whatever comes within a tenth of a second
shares a transaction, because each one is an fsync on the disk that the log needs. `record` returns
only after the commit, and the bus acknowledges after `record`, so nothing is lost between the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from services.ledger.core import changes_of
from services.ledger.ports import FactLog, LedgerStore, Page
from shared.contracts.facts import Usage
from shared.contracts.ledger import (
    TasksQuery,
    TasksReply,
    UsageQuery,
    UsageReply,
    UsageSummary,
)
from shared.contracts.log import StoredFact
from shared.errors import Broken, Permanent, Transient

GROUP = 512
"""Facts in one transaction at most."""
MAX_ROWS, LAST = 500, 2**63 - 1
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
LINGER, LOOK_EVERY, ENOUGH = 0.1, 0.02, 128
"""Seconds that the first fact of a group waits for others, unless enough of them are there."""

Waiting = tuple[StoredFact, asyncio.Future[None]]
Warn = Callable[[str, float], None]


class Recorder:
    """Group commit of facts into the store.

    While the database is away it keeps trying: giving up would lose a fact of the bill. The
    consumer's bound on unacknowledged messages holds the log back meanwhile.
    """

    def __init__(self, store: LedgerStore, warn: Warn) -> None:
        self._store = store
        self._warn = warn
        self._waiting: list[Waiting] = []
        self._writer: asyncio.Task[None] | None = None

    async def record(self, fact: StoredFact) -> None:
        """Project a fact; durable when this returns.

        Raises:
            Broken: this fact cannot be written (the others of its group are).
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((fact, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await done

    async def close(self) -> None:
        """Stop writing; what is not committed was not acknowledged and comes again."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)

    async def _write(self) -> None:
        while self._waiting:
            await self._gather()
            group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
            try:
                await self._commit([fact for fact, _ in group])
            except Broken:
                await self._one_by_one(group)
            else:
                _settle(group)

    async def _gather(self) -> None:
        waited = 0.0
        while waited < LINGER and len(self._waiting) < ENOUGH:
            await asyncio.sleep(LOOK_EVERY)
            waited += LOOK_EVERY

    async def _one_by_one(self, group: Sequence[Waiting]) -> None:
        """Find out which fact cannot be written, so that it alone fails."""
        for fact, done in group:
            try:
                await self._commit([fact])
            except Broken as error:
                if not done.done():
                    done.set_exception(error)
            else:
                _settle([(fact, done)])

    async def _commit(self, facts: Sequence[StoredFact]) -> None:
        changes = [change for fact in facts for change in changes_of(fact)]
        highest = max(fact.seq for fact in facts)
        delay = FIRST_DELAY
        while True:
            try:
                await self._store.apply(changes, highest)
            except Transient as error:
                self._warn(error.code, delay)
                await asyncio.sleep(delay)
                delay = min(LONGEST_DELAY, delay * 2)
            else:
                return


def _settle(group: Sequence[Waiting]) -> None:
    for _, done in group:
        if not done.done():
            done.set_result(None)


class Queries:
    """Answers of the ledger; errors travel in the reply."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    async def tasks(self, query: TasksQuery) -> TasksReply:
        """Recent tasks of a tenant.

        Raises:
            Permanent: `invalid_limit`, `invalid_cursor`.
        """
        _check_limit(query.limit)
        if not 0 <= query.before <= LAST:
            raise Permanent("invalid_cursor", f"before is 0 to {LAST}", field="before")
        found = await self._store.tasks(query)
        return TasksReply(tasks=found, sequence=(await self._store.position()).sequence)

    async def usage(self, query: UsageQuery) -> UsageReply:
        """Usage of a tenant, grouped; the total runs over all groups, shown or not.

        Raises:
            Permanent: `invalid_limit`.
        """
        _check_limit(query.limit)
        rows = await self._store.usage(query)
        shown = rows[-query.limit :] if query.by == "day" else rows[: query.limit]
        return UsageReply(
            rows=shown, total=total(rows), sequence=(await self._store.position()).sequence
        )


def total(rows: Sequence[UsageSummary]) -> UsageSummary:
    """The sum over all groups."""
    usage = Usage()
    for row in rows:
        usage += row.usage
    calls, price = sum(row.calls for row in rows), sum(row.price for row in rows)
    return UsageSummary(key="total", calls=calls, usage=usage, price=price)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_ROWS:
        raise Permanent(
            "invalid_limit", f"limit must be 1 to {MAX_ROWS}, not {limit}", field="limit"
        )


async def catch_up(store: LedgerStore, log: FactLog) -> int:
    """Read again whatever a replay still owes; returns the number of facts read.

    A database that has never seen the log owes all of it: the consumer on the bus may be far
    ahead of a database that was lost or replaced. A replay that was interrupted goes on. Facts
    that a killed process held would come again only after its time to acknowledge: they are read
    from the log at once.
    """
    position = await store.position()
    if position.replay_until is None:
        _, last = await log.bounds()
        await store.begin_replay(last)
        position = await store.position()
    count = 0
    while position.replaying and position.replay_until is not None:
        page = await log.read(position.replay_from, GROUP)
        upto = page.next if page.next > position.replay_from else position.replay_until + 1
        await _store_page(store, page, upto)
        count += len(page.facts)
        position = await store.position()
    return count + await _read_unsettled(store, log)


async def _read_unsettled(store: LedgerStore, log: FactLog) -> int:
    start, last = await log.unsettled()
    count = 0
    while start <= last:
        page = await log.read(start, GROUP)
        if page.next <= start:
            break
        await _store_page(store, page, None)
        count += len(page.facts)
        start = page.next
    return count


async def _store_page(store: LedgerStore, page: Page, replayed: int | None) -> None:
    changes = [change for fact in page.facts for change in changes_of(fact)]
    await store.apply(changes, max((fact.seq for fact in page.facts), default=0), replayed)


async def rebuild(store: LedgerStore, log: FactLog, *, forget: bool = False) -> int:
    """Drop every row and replay the whole log; returns the number of facts read.

    Raises:
        Permanent: `log_too_short`, where the log no longer begins where the ledger does and
            `forget` is not set: the history before that would be gone for good.
    """
    position = await store.position()
    first, last = await log.bounds()
    if position.oldest and position.oldest < first and not forget:
        raise Permanent(
            "log_too_short",
            f"the log begins at {first}, the ledger at {position.oldest}: a rebuild would forget "
            "what lies between; add --forget if that is meant",
        )
    await store.begin_replay(last, drop=True)
    return await catch_up(store, log)
