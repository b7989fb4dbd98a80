"""Forks on a real server: what is taken over is not done again, and the parent stays as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.bus.connect import Bus
from shared.client import Session, Task
from shared.contracts import facts as f
from shared.contracts.base import SessionRef, encode
from shared.contracts.work import RunTool
from shared.errors import Permanent
from shared.subjects import fact_subject
from shared.timeline import timeline
from shared.transcript import Transcript
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


async def ended(loop: Loop, order: str, session: str = "s1", task: str = "t1") -> f.Done:
    job = await loop.client.submit("helper", order, session=session, task=task)
    return await job.result(40)


def task_of(loop: Loop, fork: Session, task: str = "t1") -> Task:
    return loop.client.task(task, fork.ref.session)


async def kinds(session: Session) -> list[str]:
    return [stored.kind for stored in await session.history()]


async def test_a_fork_takes_over_what_was_done_and_runs_on(loop: Loop) -> None:
    await loop.all()
    await ended(loop, "say before", task="t0")
    done = await ended(loop, "steps 3")
    assert done.output == "got shout0 shout1 shout2"
    parent = await loop.client.session("s1").history()
    loop.calls.clear()
    fork = await loop.client.fork("s1", at=4, name="f1", results={1: "edited"}, by="ada")
    again = await task_of(loop, fork).result(40)
    assert again.output == "got edited shout1 shout2"
    assert [(call.ref.session, call.step) for call in loop.calls] == [("f1", 5)]
    assert again.totals.infer_steps == 2, "a fork pays for its own steps"
    assert await loop.client.session("s1").history() == parent
    own = [one for one in await fork.history() if one.seq > parent[-1].seq]
    assert [one.kind for one in own] == ["forked", "inferred", "tool_done", "inferred", "done"]
    assert await fork.origin() == own[0].fact
    line = timeline(await fork.history(), "t1")
    assert line
    assert [row.step for row in line.rows] == [0, 1, 2, 3, 4, 5, 6]
    more = await ended(loop, "say after", session="f1", task="t2")
    assert (more.status, more.output) == ("completed", "after")


async def test_another_route_and_another_input(loop: Loop) -> None:
    await loop.all()
    await ended(loop, "say one")
    fork = await loop.client.fork("s1", at="t1.0", input="say two")
    assert (await task_of(loop, fork).result(40)).output == "two"
    lost = await loop.client.fork("s1", at="t1.0", route="nowhere")
    done = await task_of(loop, lost).result(40)
    assert done.error
    assert done.error.code == "unknown_route"


async def test_one_of_several_calls_is_made_again(loop: Loop) -> None:
    await loop.all()
    await ended(loop, "tools 3")
    loop.calls.clear()
    fork = await loop.client.fork("s1", at=2, results={3: "given"})
    assert (await task_of(loop, fork).result(40)).output == "got shout0 shout1 given"
    assert [call.step for call in loop.calls] == [2]


async def test_a_fork_of_a_fork_and_its_viewers(loop: Loop) -> None:
    await loop.all()
    await ended(loop, "steps 3")
    first = await loop.client.fork("s1", at=4, name="f1", results={1: "one"})
    await task_of(loop, first).result(40)
    loop.calls.clear()
    second = await loop.client.fork("f1", at=6, name="f2", results={3: "two"})
    done = await task_of(loop, second).result(40)
    assert done.output == "got one two shout2"
    assert not loop.calls
    earlier = await loop.client.fork("f1", at=2, name="f3")
    assert (await task_of(loop, earlier).result(40)).output == "got one shout1 shout2"
    seen = [event async for event in task_of(loop, second).events()]
    facts = [event for event in seen if event.kind != "delta"]
    assert [event.kind for event in facts] == await kinds(second)
    middle = seen[len(seen) // 2].id
    rest = [event async for event in task_of(loop, second).events(middle)]
    assert [event.id for event in rest] == [event.id for event in seen[len(seen) // 2 + 1 :]]
    assert await loop.client.log.forks_of(SessionRef("default", "f1")) == ["f2", "f3"]
    assert await loop.client.log.forks_of(SessionRef("default", "s1")) == ["f1"]


async def test_the_loop_dies_in_the_middle_of_a_fork(loop: Loop) -> None:
    await loop.all()
    await ended(loop, "steps 3")
    await loop.stop("w1")
    fork = await loop.client.fork("s1", at=2, results={1: "kept"})
    await until(lambda: _has(fork, "forked"))
    await loop.crash("sessions")
    await loop.start("sessions", "w1")
    assert (await task_of(loop, fork).result(30)).output == "got kept shout1 shout2"
    conversation = Transcript().fold(await fork.history()).messages()
    said = [one["content"] for one in conversation if one["role"] == "tool"]
    assert said == ["kept", "shout1", "shout2"]


async def _has(session: Session, kind: str) -> bool:
    return kind in await kinds(session)


async def test_a_running_task_is_forked_and_what_waits_stays_behind(loop: Loop) -> None:
    async def slow(work: RunTool) -> str:
        return f"{work.name}-{work.ref.session}"

    loop.run_call = slow
    await loop.all()
    asked = await loop.client.submit("careful", "call pay", session="s1", task="t1")
    await until(lambda: _has(loop.client.session("s1"), "parked"))
    fork = await loop.client.fork("s1", at=0, input="call shout")
    assert (await task_of(loop, fork).result(40)).output == f"got shout-{fork.ref.session}"
    await asked.cancel()
    assert (await asked.result(40)).status == "cancelled"


async def test_what_cannot_be_forked(loop: Loop) -> None:
    await loop.all()
    await ended(loop, "steps 1")
    fork = loop.client.fork

    async def refused(code: str, session: str = "s1", at: int | str = 0, **options) -> str:
        with pytest.raises(Permanent) as caught:
            await fork(session, at=at, **options)
        assert caught.value.code == code
        return caught.value.detail

    assert "t1.0, t1.1, t1.2" in await refused("unknown_step", at=3)
    assert "there are: 1" in await refused("unknown_step", at=2, results={2: "x"})
    await refused("unknown_step", at=0, results={1: "x"})
    await refused("unknown_session", session="never")
    assert "t1" in await refused("unknown_task", at="t9.0")
    await refused("invalid_step", at="t1.x")
    await refused("invalid_name", name="a b")
    await refused("invalid_name", name="_x")
    await refused("session_exists", name="s1")
    made = await fork("s1", at=2, name="f1")
    assert (await fork("s1", at=2, name="f1")).ref == made.ref, "asking twice is fine"
    await refused("session_exists", at=1, name="f1")


async def test_a_fork_that_is_not_the_first_fact_is_none(loop: Loop, bus: Bus) -> None:
    await loop.all()
    await ended(loop, "say one")
    await ended(loop, "say two", session="s2", task="t2")
    fact = f.Forked(parent="s1", at=99, task="t1", step=0)
    for session in ("s2", "s3"):
        subject = fact_subject(SessionRef("default", session), fact)
        circle = f.Forked(parent="s3", at=99, task="t1", step=0)
        await bus.publish(subject, encode(fact if session == "s2" else circle), {})
    assert {one.task for one in await loop.client.session("s2").history()} == {"t1", "t2"}
    assert await kinds(loop.client.session("s2")) == [
        "task",
        "accepted",
        "inferred",
        "done",
        "forked",
    ]
    assert await kinds(loop.client.session("s3")) == ["forked"]
