"""Who is there: joins, goodbyes, deaths, silence, and a process that was itself cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from services.sessions.adapters import members as there
from services.sessions.adapters.members import SERVICE, Member, Members
from shared.bus.connect import Bus, open_bus
from shared.bus.kv import KeyValue
from shared.contracts.base import encode
from shared.subjects import MEMBERS
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import LOG
from tests.integration.waiting import until

pytestmark = pytest.mark.integration


class Process:
    """A member with a connection of its own, and what it was told."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.changes = self.lapses = 0
        self.members = Members(bus, self._changed, self._lapsed)

    def _changed(self) -> None:
        self.changes += 1

    def _lapsed(self) -> None:
        self.lapses += 1

    @property
    def id(self) -> str:
        return self.members.id

    def sees(self, *others: Process) -> bool:
        return self.members.working() == sorted(one.id for one in others)


Join = Callable[[], Awaitable[Process]]


@pytest.fixture
async def join(nats_server: NatsServer, bus: Bus) -> AsyncIterator[Join]:
    async with AsyncExitStack() as stack:
        started: list[Process] = []

        async def one_more() -> Process:
            own = await stack.enter_async_context(open_bus(nats_server.address(), "m", LOG))
            started.append(Process(own))
            await started[-1].members.start()
            return started[-1]

        yield one_more
        for process in started:
            await process.members.stop()


async def test_all_see_who_joins_and_who_says_goodbye(join: Join) -> None:
    first, second = await join(), await join()
    await until(lambda: first.sees(first, second) and second.sees(first, second))
    await second.members.leave()
    await until(lambda: first.sees(first))
    assert first.members.alive(second.id), "it still has to hand back what it has"
    assert second.members.working() == [first.id]
    await second.members.stop()
    await until(lambda: not first.members.alive(second.id))
    assert first.changes == 3


async def test_one_that_died_is_missed_as_soon_as_it_is_silent(join: Join) -> None:
    first, second = await join(), await join()
    await until(lambda: first.sees(first, second))
    await second.bus.nc.close()
    await until(lambda: first.sees(first), there.DOUBT + 2)


async def test_one_that_died_before_is_not_waited_for(join: Join) -> None:
    first = await join()
    await first.bus.nc.close()
    second = await join()
    assert second.sees(second)


async def test_one_that_hangs_is_given_up_after_a_while(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(there, "GONE", 2.5)
    first, second = await join(), await join()
    await until(lambda: first.sees(first, second))
    second.members._beating.cancel()
    await second.members._subscription.unsubscribe()
    await second.bus.nc.subscribe(f"member.{SERVICE}.{second.id}", cb=silence)
    await until(lambda: first.sees(first), 20)


async def silence(_message: object) -> None:
    """Take the question and say nothing."""


async def test_one_that_only_was_late_with_its_key_is_kept(join: Join) -> None:
    first, second = await join(), await join()
    await until(lambda: first.sees(first, second))
    second.members._beating.cancel()  # it does not write any more, but it answers
    before = first.changes
    await asyncio.sleep(there.DOUBT + 2.5)
    assert first.sees(first, second)
    assert first.changes == before


async def test_one_that_was_cut_off_may_not_act_and_is_told(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await join()
    monkeypatch.setattr(there, "LEASE", 0.3)
    await until(lambda: not first.members.fresh)
    await first.members.beat()
    assert first.members.fresh
    assert first.lapses > 0


async def test_a_key_that_cannot_be_read_is_nobody(join: Join, bus: Bus) -> None:
    first = await join()
    kv = KeyValue(bus, MEMBERS)
    await kv.put(f"{SERVICE}.broken", b"{")
    await kv.put("router.r1", encode(Member()))
    second = await join()
    assert second.sees(first, second)
    await until(lambda: first.sees(first, second))
