"""How the ledger reads the log again: what a database still owes, or all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.ledger.core import changes_of
from services.ledger.ports import FactLog, LedgerStore, Page
from shared.contracts.ledger import LedgerState, RebuildLedger
from shared.errors import MillraceError, Permanent

GROUP = 512
"""Facts in one transaction at most."""
FAR = 2**62
"""Beyond any sequence."""
Told = Callable[[MillraceError], None]


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
        Permanent: as `drop`.
    """
    await drop(store, log, forget=forget)
    return await catch_up(store, log)


async def drop(store: LedgerStore, log: FactLog, *, forget: bool = False) -> int:
    """Drop every row and owe the whole log; returns the sequence up to which it is owed.

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
    # what another process applies between a look at the log and the drop would be lost: look again
    await store.begin_replay(FAR, drop=True)
    _, last = await log.bounds()
    await store.begin_replay(last)
    return last


class Rebuilder:
    """Rebuilds on demand, beside the facts that come in: what is written twice is written once."""

    def __init__(self, store: LedgerStore, log: FactLog, failed: Told) -> None:
        self._store, self._log, self._failed = store, log, failed
        self._task: asyncio.Task[int] | None = None

    async def rebuild(self, order: RebuildLedger) -> LedgerState:
        """Begin, unless one is on its way here; the answer comes once the rows are dropped.

        Raises:
            Permanent: `log_too_short`.
        """
        if self._task is None or self._task.done():
            until = await drop(self._store, self._log, forget=order.forget)
            self._task = asyncio.create_task(catch_up(self._store, self._log))
            self._task.add_done_callback(self._ended)
            return LedgerState(replaying=True, replay_from=1, replay_until=until)
        position = await self._store.position()
        return LedgerState(
            sequence=position.sequence,
            replaying=True,
            replay_from=position.replay_from,
            replay_until=position.replay_until or 0,
        )

    def _ended(self, task: asyncio.Task[int]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, MillraceError):
            self._failed(error)

    async def close(self) -> None:
        """Stop; the next start goes on where this ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
