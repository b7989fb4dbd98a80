"""What the ledger does with a fact.

Facts arrive one by one and are written in groups: whatever comes within a tenth of a second
shares a transaction, because each one is an fsync on the disk that the log needs. `record` returns
only after the commit, and the bus acknowledges after `record`, so nothing is lost between the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from services.ledger.core import changes_of
from services.ledger.ports import LedgerStore
from shared.clock import monotonic, now
from shared.contracts.log import StoredFact
from shared.errors import Broken, Transient
from shared.metrics.catalogue import LEDGER_COMMIT, LEDGER_DELAY, LEDGER_FACTS, LEDGER_RETRIES

GROUP = 512
"""Facts in one transaction at most."""
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
            begun = monotonic()
            try:
                await self._store.apply(changes, highest)
            except Transient as error:
                LEDGER_RETRIES.add()
                self._warn(error.code, delay)
                await asyncio.sleep(delay)
                delay = min(LONGEST_DELAY, delay * 2)
            else:
                LEDGER_COMMIT.observe(monotonic() - begun)
                LEDGER_DELAY.observe(now() - min(fact.time for fact in facts))
                LEDGER_FACTS.add(by=len(facts))
                return


def _settle(group: Sequence[Waiting]) -> None:
    for _, done in group:
        if not done.done():
            done.set_result(None)
