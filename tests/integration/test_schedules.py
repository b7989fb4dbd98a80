"""Schedules on a real server: each firing is one task, whatever restarts or comes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.sessions.adapters.schedules import Firing, firing_of, submit
from shared.bus.connect import Bus
from shared.bus.consume import Delivery
from shared.client import Millrace
from shared.clock import now
from shared.contracts.base import encode
from shared.contracts.log import KEY_HEADER, StoredFact
from shared.contracts.schedules import Schedule
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent
from shared.subjects import due_subject
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
TASK = TaskSubmitted(input="say hello", metadata={"why": "test"})


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


@pytest.fixture
def client(bus: Bus) -> Millrace:
    return Millrace(bus)


def each(seconds: int, session: str = "s1") -> Schedule:
    return Schedule(agent="helper", task=TASK, session=session, every_s=seconds)


async def tasks_of(client: Millrace, session: str, least: int) -> list[StoredFact]:
    """The submissions of a session, once there are so many."""
    async with asyncio.timeout(20):
        while True:
            facts = await client.session(session).history()
            found = [stored for stored in facts if stored.kind == "task"]
            if len(found) >= least:
                return found
            await asyncio.sleep(0.1)


async def test_a_time_that_comes_submits_the_task_and_ends_the_schedule(loop: Loop) -> None:
    await loop.all()
    one = Schedule(agent="helper", task=TASK, session="s1", at=now() + 2.0, key="k1")
    sequence = await loop.client.schedules.put("once", one)
    stored = await loop.client.schedules.get("once")
    assert (stored.schedule, stored.sequence, stored.next) == (one, sequence, one.at)
    (fact,) = await tasks_of(loop.client, "s1", 1)
    assert isinstance(fact.fact, TaskSubmitted)
    assert fact.fact.metadata == {"why": "test", "schedule": "once"}
    assert fact.task.startswith("once-")
    assert fact.headers[KEY_HEADER] == "k1", "whoever made the schedule pays"
    assert (await loop.client.task(fact.task, "s1").result(40)).output == "hello"
    assert await loop.client.schedules.list() == []


async def test_an_interval_goes_on_until_it_is_removed(loop: Loop) -> None:
    await loop.all()
    schedules = loop.client.schedules
    await schedules.put("tick", each(1))
    found = await tasks_of(loop.client, "s1", 2)
    assert len({fact.task for fact in found}) == len(found)
    (tick,) = await schedules.list()
    assert tick.created < tick.last < tick.next < now() + 2
    await schedules.delete("tick")
    await asyncio.sleep(1.0)  # one that fired just before
    before = len(await tasks_of(loop.client, "s1", 2))
    await asyncio.sleep(1.5)
    assert len(await tasks_of(loop.client, "s1", 2)) == before
    with pytest.raises(Permanent, match="unknown_schedule"):
        await schedules.delete("tick")
    with pytest.raises(Permanent, match="unknown_schedule"):
        await schedules.get("tick")


async def test_without_a_session_each_firing_has_its_own(loop: Loop) -> None:
    await loop.start("sessions")
    await loop.client.schedules.put("tick", each(1, session=""))

    async def several() -> bool:
        return len(await loop.client.sessions()) >= 2

    await until(several)
    await loop.client.schedules.delete("tick")
    for session in await loop.client.sessions():
        (fact,) = await tasks_of(loop.client, session, 1)
        assert session == f"s-{fact.task}"


async def test_what_fires_while_sessions_is_away_is_submitted_once_when_it_comes(
    loop: Loop,
) -> None:
    one = Schedule(agent="helper", task=TASK, session="s1", at=now() + 0.3)
    await loop.client.schedules.put("once", one)
    await asyncio.sleep(1.0)
    await loop.start("sessions")
    assert len(await tasks_of(loop.client, "s1", 1)) == 1


async def test_a_firing_that_is_delivered_again_is_the_same_task(client: Millrace) -> None:
    subject = due_subject("default", "report")
    for number in (1, 2):
        delivery = Delivery(subject, encode(each(60)), "TIMERS", 7, number, 0.0)
        firing = firing_of(delivery)
        assert isinstance(firing, Firing)
        await submit(client.bus, firing)
    (fact,) = await client.session("s1").history()
    assert fact.task == "report-7"


async def test_schedules_survive_a_restart_of_the_server(
    nats_server: NatsServer, loop: Loop
) -> None:
    await loop.all()
    schedules = loop.client.schedules
    await schedules.put("tick", each(1))
    await schedules.put("later", Schedule(agent="helper", task=TASK, session="s2", at=now() + 2))
    await tasks_of(loop.client, "s1", 1)
    nats_server.kill()
    await asyncio.sleep(2.5)
    nats_server.start()
    before = len(await tasks_of(loop.client, "s1", 1))
    await tasks_of(loop.client, "s1", before + 1)
    assert len(await tasks_of(loop.client, "s2", 1)) == 1  # its time came while the server was away
    assert [one.name for one in await schedules.list()] == ["tick"]
    await schedules.delete("tick")


async def test_a_name_stands_for_one_schedule_of_a_tenant(client: Millrace) -> None:
    other = client.for_tenant("other")
    await client.schedules.put("a", each(3600))
    await client.schedules.put("a", each(7200, session="s2"))
    await other.schedules.put("a", each(60))
    (one,) = await client.schedules.list()
    assert (one.schedule.every_s, one.schedule.session) == (7200, "s2")
    await client.schedules.delete("a")
    assert [one.schedule.every_s for one in await other.schedules.list()] == [60]


@pytest.mark.parametrize(
    ("when", "field"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"cron": "@daily", "zone": "Nowhere/Land"}, "zone"),
        ({"every_s": 10**15}, "every_s"),
        ({"at": 1.0}, "at"),
    ],
)
async def test_what_the_server_refuses_names_the_field(
    client: Millrace, when: dict[str, object], field: str
) -> None:
    wrong = Schedule(agent="helper", task=TASK, **when)  # type: ignore[arg-type]  # a table of cases
    with pytest.raises(Permanent) as refused:
        await client.schedules.put("a", wrong)
    assert (refused.value.code, refused.value.field) == ("invalid_schedule", field)
    assert await client.schedules.list() == []
    with pytest.raises(Permanent, match="invalid_name"):
        await client.schedules.put("a.b", each(9))


async def test_a_schedule_that_cannot_be_read_becomes_a_dead_letter(loop: Loop, bus: Bus) -> None:
    await loop.start("sessions")
    await bus.publish(due_subject("default", "broken"), b"{nonsense")

    async def buried() -> bool:
        return bool((await bus.api("STREAM.INFO.DEAD"))["state"]["messages"])

    await until(buried)
    assert await loop.client.sessions() == []
