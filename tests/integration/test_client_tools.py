"""Tools of the client in a real loop: it asks, parks, is killed, and goes on with the result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.bus.connect import Bus
from shared.client import Task
from shared.contracts.agents import BARE, ToolSpec
from shared.contracts.base import task_of_call
from shared.contracts.facts import Accepted, Approved, Inferred, Parked
from shared.contracts.tasks import InputMessage, PastCall, Terms
from shared.errors import Permanent
from shared.waiting import waiting
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
MINE = Terms(tools=(ToolSpec(name="mine", parameters={"type": "object"}),))


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        await loop.all()
        yield loop


async def parked(task: Task) -> str:
    """Wait until the client is asked; the id of its call."""

    async def waits() -> bool:
        return any(
            isinstance(one.fact, Parked) and one.fact.reason == "client_tool"
            for one in waiting(await task.facts())
        )

    await until(waits)
    facts = [stored.fact for stored in await task.facts()]
    return next(fact.tool_calls[0].id for fact in facts if isinstance(fact, Inferred))


async def consistent(loop: Loop, *sessions: str) -> None:
    for name in sessions:
        found = await loop.client.session(name).check()
        assert found.difference is None
        assert found.facts


async def test_the_client_answers_and_the_task_goes_on(loop: Loop) -> None:
    task = await loop.client.submit("helper", "call mine", session="s1", terms=MINE)
    call = await parked(task)
    assert task_of_call(call) == task.id
    first = await task.answer(call, "42", by="client")
    assert await task.answer(call, "43") == first
    done = await task.result(40)
    assert (done.status, done.output) == ("completed", "got 42")
    with pytest.raises(Permanent, match="unknown_call"):
        await task.answer("call_none", "1")
    assert not loop.calls
    await consistent(loop, "s1")


async def test_a_crash_between_question_and_result_changes_nothing(loop: Loop) -> None:
    task = await loop.client.submit(BARE.name, "call mine", session="s1", terms=MINE)
    call = await parked(task)
    await loop.crash("sessions", "w1")
    await loop.start("sessions", "w1")
    await task.answer(call, "42")
    assert (await task.result(30)).output == "got 42"
    facts = [stored.fact for stored in await task.facts()]
    assert [fact.agent.name for fact in facts if isinstance(fact, Accepted)] == ["_model"]
    assert len([fact for fact in facts if isinstance(fact, Approved)]) == 1
    await consistent(loop, "s1")


async def test_other_terms_hold_from_the_result_on(loop: Loop) -> None:
    task = await loop.client.submit("helper", "call mine", session="s1", terms=MINE)
    await task.answer(await parked(task), "42", terms=Terms(route="nowhere"))
    done = await task.result(40)
    assert done.error is not None
    assert done.error.code == "unknown_route"
    await consistent(loop, "s1")


async def test_what_cannot_be_ends_with_its_reason(loop: Loop) -> None:
    twice = Terms(tools=(ToolSpec(name="shout"),))
    task = await loop.client.submit("helper", "say x", session="s1", terms=twice)
    done = await task.result(40)
    assert done.error is not None
    assert (done.error.code, done.error.field) == ("duplicate_tool", "tools.0.name")
    await consistent(loop, "s1")


async def test_a_history_with_calls_enters_a_session(loop: Loop) -> None:
    call = PastCall(id="call_elsewhere", name="mine", arguments='{"n": 1}')
    history = [
        InputMessage(role="user", content="call mine"),
        InputMessage(role="assistant", content="", tool_calls=(call,)),
        InputMessage(role="tool", content="42", tool_call_id=call.id),
    ]
    task = await loop.client.submit(BARE.name, history, session="s1", terms=MINE)
    assert (await task.result(40)).output == "got 42"
    await consistent(loop, "s1")


async def test_a_parked_call_can_be_cancelled_forked_and_deleted(loop: Loop) -> None:
    task = await loop.client.submit("helper", "call mine", session="s1", terms=MINE)
    call = await parked(task)
    fork = await loop.client.fork("s1", at=f"{task.id}.1", name="s2")
    other = loop.client.task(task.id, "s2")
    await parked(other)
    await other.answer(call, "43")
    assert (await other.result(40)).output == "got 43"
    await task.cancel("kim")
    assert (await task.result(40)).status == "cancelled"
    await consistent(loop, "s1", "s2")
    await fork.delete()
    await loop.client.session("s1").delete()
