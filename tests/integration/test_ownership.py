"""Several instances of the loop: who owns a partition, how it changes hands, who is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import chain
from pathlib import Path

import orjson
import pytest

from services.sessions.adapters import owner as owning
from services.sessions.adapters.partition import (
    Checkpoint,
    Owning,
    Partition,
    checkpoint_key,
    read_checkpoint,
)
from services.sessions.handlers import Sessions
from shared import clock
from shared.bus.connect import Bus
from shared.bus.kv import KeyValue
from shared.bus.log import RunLog
from shared.client import Task
from shared.contracts.base import encode
from shared.contracts.facts import Done, Inferred, ToolDone
from shared.contracts.work import RunTool
from shared.subjects import CHECKPOINTS, PARTITIONS, partition, sessions_consumer
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
ALL = list(range(PARTITIONS))


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


def shared(loop: Loop, *names: str) -> bool:
    """Each of them owns its share, and nothing is owned twice or by nobody."""
    held = [loop.owners[name].held() for name in names]
    return sorted(chain(*held)) == ALL and all(len(one) >= PARTITIONS // 4 for one in held)


async def assert_ended_once(loop: Loop, tasks: list[Task]) -> None:
    for task in tasks:
        facts = [stored.fact for stored in await task.facts()]
        assert sum(isinstance(fact, Done) for fact in facts) == 1
        steps = [fact.step for fact in facts if isinstance(fact, Inferred | ToolDone)]
        assert sorted(set(steps)) == sorted(steps)
    calls = [(work.task, work.step) for work in loop.calls]
    assert len(set(calls)) == len(calls), "no tool call was handed out twice"


async def many(loop: Loop, count: int, steps: int) -> list[Task]:
    return [
        await loop.client.submit("helper", f"steps {steps}", session=f"s{n}") for n in range(count)
    ]


async def test_one_alone_owns_all_and_two_share(loop: Loop) -> None:
    await loop.all()
    await until(lambda: loop.owners["sessions"].held() == ALL)
    await loop.start("sessions2")
    await until(lambda: shared(loop, "sessions", "sessions2"), 20)
    tasks = await many(loop, 12, 2)
    assert {(await task.result(40)).status for task in tasks} == {"completed"}
    await assert_ended_once(loop, tasks)


async def test_one_that_dies_in_the_middle_is_replaced_within_seconds(loop: Loop) -> None:
    await loop.all()
    await loop.start("sessions2")
    await until(lambda: shared(loop, "sessions", "sessions2"), 20)
    tasks = await many(loop, 20, 6)
    await until(lambda: len(loop.calls) > 20)
    await loop.crash("sessions")
    await until(lambda: loop.owners["sessions2"].held() == ALL, 20)
    assert {(await task.result(40)).status for task in tasks} == {"completed"}
    await assert_ended_once(loop, tasks)


async def test_one_that_stops_hands_on_at_once(loop: Loop, bus: Bus) -> None:
    """When it has stopped nothing is its own any more; who dies is waited for."""
    await loop.all()
    await loop.start("sessions2")
    await until(lambda: shared(loop, "sessions", "sessions2"), 20)
    tasks = await many(loop, 20, 6)
    await until(lambda: len(loop.calls) > 20)
    await loop.stop("sessions")
    assert loop.owners["sessions"].members.id not in await names(bus)
    await until(lambda: loop.owners["sessions2"].held() == ALL)
    assert {(await task.result(40)).status for task in tasks} == {"completed"}
    await assert_ended_once(loop, tasks)
    await loop.stop("sessions2")
    assert await names(bus) == {""}


async def names(bus: Bus) -> set[str]:
    """Who owns something."""
    entries = await KeyValue(bus, CHECKPOINTS).entries()
    return {read_checkpoint(entry).owner for entry in entries}


async def test_members_come_and_go_while_tasks_run(loop: Loop) -> None:
    await loop.all()
    tasks = await many(loop, 30, 8)
    for name in ("sessions2", "sessions3"):
        await loop.start(name)
    await loop.stop("sessions")
    await loop.start("sessions4")
    await loop.crash("sessions3")
    assert {(await task.result(30)).status for task in tasks} == {"completed"}
    await until(lambda: shared(loop, "sessions2", "sessions4"), 20)
    await assert_ended_once(loop, tasks)


async def test_what_another_one_claims_is_lost_at_once_and_can_be_claimed_back(
    loop: Loop, bus: Bus
) -> None:
    await loop.all()
    ours = loop.owners["sessions"]
    await until(lambda: ours.held() == ALL)
    number = partition("default", "s1")
    kv = KeyValue(bus, CHECKPOINTS)
    entry = await kv.get(checkpoint_key(number))
    assert entry is not None
    stranger = Checkpoint(seq=0, owner="nobody-there")
    await kv.put(checkpoint_key(number), encode(stranger), entry.revision)
    await until(lambda: read_later(kv, number, ours.members.id))
    assert (await (await loop.client.submit("helper", "tools 2", session="s1")).result(40)).output


async def read_later(kv: KeyValue, number: int, owner: str) -> bool:
    return read_checkpoint(await kv.get(checkpoint_key(number))).owner == owner


async def test_a_stale_owner_is_refused_its_checkpoint(loop: Loop, bus: Bus) -> None:
    sessions = Sessions(RunLog(bus), None, None, clock.now, bus.log)  # type: ignore[arg-type]  # nothing is folded here
    lost: list[str] = []
    first, second = (
        Partition(bus, 3, sessions, Owning(name, lambda: True, lambda: lost.append("first")))
        for name in ("first", "second")
    )
    assert await first.claim(await first.look())
    stale = first.place(())
    assert await second.claim(await second.look())
    await first.save(Checkpoint(seq=stale.seq + 5, owner="first"))
    assert not first.held
    assert lost == ["first"]
    assert (await second.look()).owner == "second"
    await asyncio.gather(first.drop(), second.drop())


async def test_of_two_claims_one_wins(bus: Bus) -> None:
    sessions = Sessions(RunLog(bus), None, None, clock.now, bus.log)  # type: ignore[arg-type]  # nothing is folded here
    rivals = [
        Partition(bus, 5, sessions, Owning(name, lambda: True, lambda: None)) for name in "ab"
    ]
    seen = [await one.look() for one in rivals]
    won = await asyncio.gather(*(one.claim(at) for one, at in zip(rivals, seen, strict=True)))
    assert sorted(won) == [False, True]
    for one in rivals:
        await one.drop()


async def test_a_message_that_went_elsewhere_is_fetched_again(loop: Loop, bus: Bus) -> None:
    """Another reader, pinned before the owner: it takes a fact and never settles it."""
    await loop.all()
    row = sessions_consumer(partition("default", "s1"))
    taken = await bus.nc.subscribe(bus.nc.new_inbox())
    request = {"batch": 1, "expires": int(8e9), "group": row.group}
    ask = f"$JS.API.CONSUMER.MSG.NEXT.{row.stream}.{row.name}"
    await bus.send(ask, orjson.dumps(request), reply=taken.subject)
    await asyncio.sleep(2.2)  # the owner's own request has run out and waits behind ours
    task = await loop.client.submit("helper", "steps 2", session="s1")
    assert b"steps 2" in (await taken.next_msg(5)).data
    later = await loop.client.submit("helper", "say later", session="s1")  # shows the gap
    assert (await task.result(40)).status == "completed"
    assert (await later.result(40)).output == "later"
    await assert_ended_once(loop, [task, later])


async def test_a_checkpoint_that_cannot_be_read_means_the_whole_log(loop: Loop, bus: Bus) -> None:
    await loop.all()
    task = await loop.client.submit("helper", "tools 2", session="s1")
    await task.result(40)
    await loop.stop("sessions")
    await KeyValue(bus, CHECKPOINTS).put(checkpoint_key(partition("default", "s1")), b"{broken")
    await loop.start("sessions")
    await until(lambda: loop.owners["sessions"].held() == ALL)
    again = await loop.client.submit("helper", "say hello", session="s1")
    assert (await again.result(40)).output == "hello"
    await assert_ended_once(loop, [task, again])


async def test_an_owner_that_does_not_hand_on_is_not_waited_for_for_ever(
    loop: Loop, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owning, "PATIENCE", 1.0)
    await loop.all()
    stuck = loop.owners["sessions"]
    await until(lambda: stuck.held() == ALL)
    monkeypatch.setattr(stuck, "_balance", asyncio.Event().wait)  # it does not look any more
    await loop.start("sessions2")
    await until(lambda: len(loop.owners["sessions2"].held()) == PARTITIONS // 2, 20)
    tasks = await many(loop, 10, 2)
    assert {(await task.result(40)).status for task in tasks} == {"completed"}


async def test_two_share_again_after_the_server_was_killed(
    loop: Loop, nats_server: NatsServer
) -> None:
    await loop.all()
    await loop.start("sessions2")
    await until(lambda: shared(loop, "sessions", "sessions2"), 20)
    tasks = await many(loop, 12, 6)
    await until(lambda: len(loop.calls) > 12)
    await asyncio.to_thread(nats_server.restart)
    assert {(await task.result(40)).status for task in tasks} == {"completed"}
    await until(lambda: shared(loop, "sessions", "sessions2"), 20)
    tasks = await many(loop, 12, 1)
    assert {(await task.result(40)).status for task in tasks} == {"completed"}


async def test_any_of_them_answers_a_request_about_any_session(loop: Loop) -> None:
    started: list[str] = []

    async def hang(work: RunTool) -> str:
        started.append(work.task)
        await asyncio.Event().wait()
        return ""

    loop.run_call = hang
    await loop.all()
    await loop.start("sessions2")
    await until(lambda: shared(loop, "sessions", "sessions2"), 20)
    tasks = [await loop.client.submit("helper", "call hang", session=f"s{n}") for n in range(8)]
    await until(lambda: len(started) == len(tasks))
    for task in tasks:
        await task.cancel()
    assert {(await task.result(30)).status for task in tasks} == {"cancelled"}
