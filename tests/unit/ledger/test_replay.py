"""Replays: a new database, an interrupted replay, and a rebuild that must not forget history."""

from __future__ import annotations

import pytest

from services.ledger.adapters.memory import MemoryLog, MemoryStore
from services.ledger.handlers.questions import Queries
from services.ledger.handlers.replaying import catch_up, drop, rebuild
from shared.contracts.ledger import RequestsQuery, SessionsQuery, TasksQuery, UsageQuery
from shared.errors import Permanent
from tests.fakes.ledger_log import billed, eventful

LOG = eventful()


async def test_a_new_database_reads_the_whole_log_once() -> None:
    store, log = MemoryStore(), MemoryLog(LOG)
    assert await catch_up(store, log) == len(LOG)
    assert await catch_up(store, log) == 0
    assert (await store.position()).sequence == len(LOG)


async def test_an_empty_log_owes_nothing() -> None:
    store = MemoryStore()
    assert await catch_up(store, MemoryLog()) == 0
    assert not (await store.position()).replaying


async def test_an_interrupted_replay_goes_on_where_it_was() -> None:
    store = MemoryStore()
    await store.begin_replay(len(LOG))
    await store.apply([], 4, replayed=5)
    assert await catch_up(store, MemoryLog(LOG)) == len(LOG) - 4


async def test_what_a_killed_process_held_is_read_at_once() -> None:
    store = MemoryStore()
    await catch_up(store, MemoryLog(LOG[:4]))
    assert await catch_up(store, MemoryLog(LOG, in_flight=(5, 8))) == len(LOG) - 4
    assert (await store.position()).sequence == len(LOG)


async def test_a_rebuild_gives_identical_answers() -> None:
    store, log = MemoryStore(), MemoryLog(LOG)
    await catch_up(store, log)
    questions, query = Queries(store, MemoryLog()), UsageQuery(tenant="default", by="task")
    before = await questions.usage(query)
    assert await rebuild(store, log) == len(LOG)
    assert await questions.usage(query) == before
    assert before.total is not None
    assert (before.total.usage, before.total.price) == billed(LOG, "default")


async def test_answers_say_so_while_the_log_is_read_again() -> None:
    store, log = MemoryStore(), MemoryLog(LOG)
    await catch_up(store, log)
    questions = Queries(store, log)
    tenant = "default"
    replies = [
        lambda: questions.usage(UsageQuery(tenant=tenant)),
        lambda: questions.requests(RequestsQuery(tenant=tenant)),
        lambda: questions.tasks(TasksQuery(tenant=tenant)),
        lambda: questions.sessions(SessionsQuery(tenant=tenant)),
    ]
    assert not any([(await ask()).rebuilding for ask in replies])
    await drop(store, log)
    assert all([(await ask()).rebuilding for ask in replies])
    await catch_up(store, log)
    assert not any([(await ask()).rebuilding for ask in replies])


async def test_a_rebuild_refuses_to_forget_what_the_log_no_longer_holds() -> None:
    store = MemoryStore()
    await catch_up(store, MemoryLog(LOG))
    shorter = MemoryLog(LOG[5:])
    with pytest.raises(Permanent, match="log_too_short"):
        await rebuild(store, shorter)
    assert len(await store.tasks(TasksQuery(tenant="default"))) == 3
    assert await rebuild(store, shorter, forget=True) == len(LOG) - 5


async def test_a_limit_out_of_range_is_refused() -> None:
    with pytest.raises(Permanent, match="invalid_limit"):
        await Queries(MemoryStore(), MemoryLog()).tasks(TasksQuery(tenant="default", limit=0))
