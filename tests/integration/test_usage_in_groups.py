"""The usage facts of completions are stored several at a time, each of them once, and none is lost
to a stop, to a repetition or to a broker that is away for a while."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from services.inference.adapters.books import Books
from shared.bus import topology
from shared.bus.batches import MOST, Entry, append_all
from shared.bus.connect import Bus, open_bus
from shared.bus.log import RunLog
from shared.contracts.base import SessionRef
from shared.contracts.facts import Completed, Done, Totals, Usage
from shared.errors import Transient
from shared.subjects import DIRECT_SESSION, fact_subject, session_filter
from shared.telemetry import configure
from tests.integration.broker_process import NatsServer
from tests.integration.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
REF = SessionRef("default", DIRECT_SESSION)
BATCH = "Nats-Batch-Id"


def entry(name: str, ref: SessionRef = REF) -> Entry:
    fact = Completed(id=name, model="m", worker="w", usage=Usage(input=1, output=2))
    return Entry(ref, fact, "ab" * 16)


def entries(count: int, prefix: str = "c") -> list[Entry]:
    return [entry(f"{prefix}{number}") for number in range(count)]


async def stored(bus: Bus, ref: SessionRef = REF) -> list[str]:
    facts = await RunLog(bus).read(ref)
    return [one.fact.id for one in facts if isinstance(one.fact, Completed)]


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


async def batches(bus: Bus) -> Counter[str]:
    """How many facts each batch has; those that came alone are under an empty name."""
    reader = await bus.nc.jetstream().pull_subscribe(session_filter(REF), stream="RUNS")
    found: list[Msg] = await reader.fetch(1000, timeout=2)
    return Counter((message.headers or {}).get(BATCH, "") for message in found)


async def test_what_comes_at_once_is_one_batch(bus: Bus) -> None:
    books = Books(bus)
    for one in entries(40):
        books.enter(one)
    await books.stop(10)
    assert sorted(await stored(bus)) == sorted(names("c", 40))
    assert list((await batches(bus)).values()) == [40]


async def test_more_than_a_batch_holds_are_several(bus: Bus) -> None:
    books = Books(bus)
    for one in entries(MOST + 2):
        books.enter(one)
    await books.stop(10)
    assert sorted(await stored(bus)) == sorted(names("c", MOST + 2))
    assert sorted((await batches(bus)).values()) == [2, MOST]


async def test_what_waits_is_stored_without_a_stop(bus: Bus) -> None:
    books = Books(bus)
    for count, name in enumerate("ab", 1):
        books.enter(entry(name))
        await until(lambda: not len(books))
        assert len(await stored(bus)) == count
    assert list(await batches(bus)) == [""]  # each of them was alone


async def test_a_batch_with_a_fact_that_is_stored_already_loses_none(bus: Bus) -> None:
    await RunLog(bus).append(REF, entry("c3").fact)
    await append_all(bus, entries(6))
    assert sorted(await stored(bus)) == names("c", 6)
    await append_all(bus, entries(6))
    assert len(await stored(bus)) == 6


async def test_a_batch_may_hold_several_tenants(bus: Bus) -> None:
    other = SessionRef("acme", DIRECT_SESSION)
    await append_all(bus, [entry("c1"), entry("c1", other)])
    assert (await stored(bus), await stored(bus, other)) == (["c1"], ["c1"])


async def test_what_is_too_large_for_a_batch_is_stored_beside_the_others(bus: Bus) -> None:
    large = Completed(
        id="large", model="m", worker="w", usage=Usage(), metadata={"x": "y" * (300 << 10)}
    )
    await append_all(bus, [entry("c1"), Entry(REF, large)])
    assert sorted(await stored(bus)) == ["c1", "large"]


async def test_a_server_that_takes_no_more_batches_gets_the_facts_one_by_one(bus: Bus) -> None:
    subject = fact_subject(REF, entry("open").fact)
    for number in range(60):  # it holds 50 open ones for a stream
        await bus.send(subject, b"{}", {BATCH: f"open{number}", "Nats-Batch-Sequence": "1"})
    await append_all(bus, entries(4))
    assert sorted(await stored(bus)) == names("c", 4)
    assert list(await batches(bus)) == [""]


async def test_a_fact_that_must_be_unique_keeps_its_guard(bus: Bus) -> None:
    ref = SessionRef("default", "s1")
    first = Done(task="t1", status="completed", output="1", totals=Totals())
    second = Done(task="t1", status="completed", output="2", totals=Totals())
    await append_all(bus, [Entry(ref, first), entry("c1")])
    await append_all(bus, [Entry(ref, second), entry("c2")])
    facts = await RunLog(bus).read(ref)
    assert [one.fact.output for one in facts if isinstance(one.fact, Done)] == ["1"]


async def test_nobody_is_answered_beyond_the_backlog(bus: Bus) -> None:
    books = Books(bus, backlog=2)
    books.enter(entry("a"))
    books.check()
    books.enter(entry("b"))
    with pytest.raises(Transient) as full:
        books.check()
    assert full.value.code == "usage_backlog"
    await books.stop(10)
    books.check()


@pytest_asyncio.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[NatsServer, Bus]]:
    """A server that can go away, without harm to other tests."""
    server = NatsServer(tmp_path)
    server.start()
    try:
        async with open_bus(server.address(), "test", configure("test", "critical")) as bus:
            await topology.ensure(bus)
            yield server, bus
    finally:
        server.kill()


async def test_a_broker_that_is_away_has_all_of_it_when_it_is_back(
    own: tuple[NatsServer, Bus],
) -> None:
    server, bus = own
    books = Books(bus, patience=0.2)
    server.kill()
    for one in entries(20):
        books.enter(one)
    await asyncio.sleep(0.5)  # an attempt has failed
    assert len(books) == 20
    server.start()
    await until(lambda: not len(books), within=30)
    assert sorted(await stored(bus)) == sorted(names("c", 20))
    await books.stop(1)


async def test_a_stop_without_a_broker_ends_and_keeps_count(own: tuple[NatsServer, Bus]) -> None:
    server, bus = own
    books = Books(bus)
    server.kill()
    for one in entries(3):
        books.enter(one)
    await books.stop(0.3)
    assert len(books) == 3
