"""Which prefixes a worker holds, as a router hears of it over a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from nats.aio.msg import Msg

from services.inference.adapters import prefix_board
from services.inference.adapters.prefix_board import PrefixBoard
from services.inference.core.blocks import PrefixReport
from shared.bus.connect import Bus
from shared.contracts.base import decode
from shared.contracts.prefixes import PrefixChange
from shared.contracts.workers import WorkerState
from shared.subjects import prefixes_request, prefixes_subject
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
STATE = WorkerState(worker="w.1", model="nano", engine="x", slots=1)


class Cache:
    """What stands for the worker: its cache is what the test says."""

    def __init__(self) -> None:
        self.report: PrefixReport | None = PrefixReport(block_tokens=4, complete=True)

    def prefixes(self) -> PrefixReport | None:
        return self.report

    def hold(self, blocks: Iterable[int], epoch: int = 0) -> None:
        self.report = PrefixReport(
            block_tokens=4, complete=True, epoch=epoch, blocks=frozenset(blocks)
        )


class Reader:
    """What a router makes of it."""

    def __init__(self) -> None:
        self.blocks: set[int] = set()
        self.number = 0
        self.gaps = 0

    async def hear(self, message: Msg) -> None:
        change = decode(message.data, PrefixChange)
        self.gaps += change.number != self.number + 1
        self.read(change)

    def read(self, change: PrefixChange) -> None:
        if change.whole:
            self.blocks.clear()
        self.blocks |= set(change.stored)
        self.blocks -= set(change.removed)
        self.number = change.number


@pytest.fixture
async def cache(bus: Bus, reader: Reader) -> AsyncIterator[Cache]:
    cache = Cache()
    board = PrefixBoard(bus, cache, STATE, every=0.02)  # type: ignore[arg-type]  # all it looks at
    await board.start()
    yield cache
    await board.stop()


@pytest.fixture
async def reader(bus: Bus) -> Reader:
    reader = Reader()
    await bus.nc.subscribe(prefixes_subject("nano", "w.1"), cb=reader.hear)
    await bus.nc.flush()
    return reader


async def whole(bus: Bus) -> Reader:
    """Who comes late asks for all of it."""
    reader, done = Reader(), asyncio.Event()

    async def part(message: Msg) -> None:
        change = decode(message.data, PrefixChange)
        reader.read(change)
        if not change.more:
            done.set()

    inbox = bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox, cb=part)
    await bus.nc.publish(prefixes_request("w.1"), b"", reply=inbox)
    async with asyncio.timeout(10):
        await done.wait()
    await subscription.unsubscribe()
    return reader


async def test_changes_add_up_to_what_is_held(bus: Bus, cache: Cache, reader: Reader) -> None:
    for held in ([1, 2, 3], [2, 3, 2**64 - 1], [], [9]):
        cache.hold(held)
        await until(lambda held=held: reader.blocks == set(held))
    assert reader.gaps == 0


async def test_who_comes_late_asks_for_the_whole_and_goes_on_from_there(
    bus: Bus, cache: Cache, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_board, "MOST", 3)
    cache.hold(range(1, 11))
    await until(lambda: len(reader.blocks) == 10)
    late = await whole(bus)
    assert (late.blocks, late.number) == (reader.blocks, reader.number)
    await bus.nc.subscribe(prefixes_subject("nano", "w.1"), cb=late.hear)
    await bus.nc.flush()
    cache.hold(range(5, 20))
    await until(lambda: late.blocks == set(range(5, 20)))
    assert late.gaps == 0


async def test_a_cache_that_begins_anew_makes_what_was_known_void(
    bus: Bus, cache: Cache, reader: Reader
) -> None:
    cache.hold([1, 2])
    await until(lambda: reader.blocks == {1, 2})
    cache.hold([2, 3], epoch=1)
    await until(lambda: reader.blocks == {2, 3})


async def test_a_model_of_which_nobody_can_tell_is_silent(bus: Bus) -> None:
    cache = Cache()
    cache.report = None
    board = PrefixBoard(bus, cache, STATE)  # type: ignore[arg-type]  # all it looks at
    await board.start()
    with pytest.raises(Exception, match="no responders"):
        await bus.nc.request(prefixes_request("w.1"), b"", timeout=20)
    await board.stop()
