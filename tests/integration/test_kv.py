"""Key-value buckets: read, write, list however many, be told of changes."""

from __future__ import annotations

import asyncio

import pytest

from shared.bus.connect import Bus
from shared.bus.kv import Entry, KeyValue
from shared.errors import Permanent, Transient
from shared.subjects import AGENTS, MEMORY
from tests.integration.broker_process import NatsServer

pytestmark = pytest.mark.integration


async def test_the_newest_value_is_read(bus: Bus) -> None:
    kv = KeyValue(bus, MEMORY)
    assert await kv.get("a.b") is None
    await kv.put("a.b", b"1")
    revision = await kv.put("a.b", b"2")
    found = await kv.get("a.b")
    assert found is not None
    assert (found.key, found.value, found.revision) == ("a.b", b"2", revision)


async def test_a_write_against_an_old_revision_is_refused(bus: Bus) -> None:
    kv = KeyValue(bus, MEMORY)
    first = await kv.put("a.c", b"1", 0)
    second = await kv.put("a.c", b"2", first)
    for stale in (0, first):
        with pytest.raises(Permanent) as caught:
            await kv.put("a.c", b"3", stale)
        assert caught.value.code == "wrong_last_sequence"
    found = await kv.get("a.c")
    assert found is not None
    assert (found.value, found.revision) == (b"2", second)


async def test_a_removed_key_is_gone_until_it_is_written_again(bus: Bus) -> None:
    kv = KeyValue(bus, AGENTS)  # a bucket with history
    await kv.delete("never")
    await kv.put("x.a", b"1")
    await kv.put("x.b", b"1")
    await kv.delete("x.a")
    assert await kv.get("x.a") is None
    assert [entry.key for entry in await kv.entries()] == ["x.b"]
    await kv.put("x.a", b"2")
    assert [(entry.key, entry.value) for entry in await kv.entries("x.>")] == [
        ("x.b", b"1"),
        ("x.a", b"2"),
    ]


async def test_more_keys_than_the_server_answers_at_once(bus: Bus) -> None:
    kv = KeyValue(bus, MEMORY)
    await asyncio.gather(*(kv.put(f"t.{n}", str(n).encode()) for n in range(1300)))
    found = await kv.entries("t.*")
    assert sorted(int(entry.value) for entry in found) == list(range(1300))


async def test_an_empty_bucket(bus: Bus) -> None:
    assert await KeyValue(bus, MEMORY).entries() == []


async def test_a_watcher_is_told_of_writes_and_removals(bus: Bus) -> None:
    kv, told = KeyValue(bus, MEMORY), asyncio.Queue[Entry]()
    await kv.watch(told.put)
    await kv.put("a", b"1")
    await kv.delete("a")
    async with asyncio.timeout(20):
        assert [((one := await told.get()).key, one.value) for _ in range(2)] == [
            ("a", b"1"),
            ("a", b""),
        ]


async def test_without_a_server_it_is_transient(bus: Bus, nats_server: NatsServer) -> None:
    kv = KeyValue(bus, MEMORY)
    nats_server.kill()
    try:
        with pytest.raises(Transient):
            await kv.put("a", b"1")
        with pytest.raises(Transient):
            await kv.get("a")
    finally:
        await asyncio.to_thread(nats_server.restart)
