"""Group commit: durable before it returns, patient with the database, strict with one bad fact."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.ledger.adapters.memory import MemoryStore
from services.ledger.core import Change
from services.ledger.handlers.recording import Recorder
from shared.contracts.ledger import TasksQuery
from shared.errors import Broken, Transient
from shared.metrics.catalogue import LEDGER_COMMIT, LEDGER_DELAY, LEDGER_FACTS, LEDGER_RETRIES
from tests.fakes.counted import Moved
from tests.fakes.ledger_log import eventful

LOG = eventful()


class SlowStore(MemoryStore):
    """Yields to the loop in every commit, is away for the first `away` of them, and cannot hold
    the fact at `poison`."""

    def __init__(self, away: int = 0, poison: int = 0) -> None:
        super().__init__()
        self.away, self.poison = away, poison
        self.groups: list[int] = []

    async def apply(
        self, changes: Sequence[Change], sequence: int, replayed: int | None = None
    ) -> None:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise Transient("ledger_unavailable")
        if any(change.sequence == self.poison for change in changes):
            raise Broken("ledger_statement")
        self.groups.append(len({change.sequence for change in changes}))
        await super().apply(changes, sequence, replayed)


class Warnings:
    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []

    def __call__(self, code: str, delay: float) -> None:
        self.seen.append((code, delay))


async def test_facts_that_arrive_together_share_a_transaction() -> None:
    store = SlowStore()
    recorder = Recorder(store, Warnings())
    await asyncio.gather(*(recorder.record(fact) for fact in LOG))
    assert len(store.groups) == 1
    assert (await store.position()).sequence == len(LOG)


async def test_record_returns_after_the_commit() -> None:
    store = SlowStore()
    recorder = Recorder(store, Warnings())
    await recorder.record(LOG[0])
    assert [task.task for task in await store.tasks(TasksQuery(tenant="default"))] == ["t1"]


async def test_a_database_that_is_away_delays_and_loses_nothing() -> None:
    store, warn = SlowStore(away=2), Warnings()
    recorder = Recorder(store, warn)
    await recorder.record(LOG[0])
    assert warn.seen == [("ledger_unavailable", 0.1), ("ledger_unavailable", 0.2)]
    assert (await store.position()).sequence == 1


async def test_one_bad_fact_fails_alone() -> None:
    store = SlowStore(poison=3)
    recorder = Recorder(store, Warnings())
    outcomes = await asyncio.gather(
        *(recorder.record(fact) for fact in LOG[:6]), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(Broken) == 1
    assert isinstance(outcomes[2], Broken)
    assert (await store.tasks(TasksQuery(tenant="default")))[0].status == "completed"


async def test_closing_ends_the_wait_for_a_database() -> None:
    recorder = Recorder(SlowStore(away=1_000), Warnings())
    waiting = asyncio.create_task(recorder.record(LOG[0]))
    await asyncio.sleep(0.01)
    await recorder.close()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_commits_are_counted_with_their_facts_and_vain_attempts() -> None:
    facts, retries = Moved(LEDGER_FACTS), Moved(LEDGER_RETRIES)
    commits, delays = (Moved(one, part="_count") for one in (LEDGER_COMMIT, LEDGER_DELAY))
    recorder = Recorder(SlowStore(away=1), Warnings())
    await asyncio.gather(*(recorder.record(fact) for fact in LOG[:5]))
    assert (facts.by, retries.by, commits.by, delays.by) == (5, 1, 1, 1)
