"""The typed client: submit, follow, control, documents; typed errors for all that can go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from shared.bus import claims
from shared.bus.connect import Bus
from shared.client import Millrace
from shared.contracts.agents import Sampling
from shared.contracts.base import SessionRef
from shared.contracts.facts import Completed, Done, Usage
from shared.contracts.tasks import InputMessage
from shared.contracts.work import ChatMessage, DirectRequest
from shared.errors import Permanent, Transient
from tests.integration.asked_system import asked_system
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop

pytestmark = pytest.mark.integration


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


@pytest.fixture(params=["operator", "tenant"])
async def either(
    request: pytest.FixtureRequest, nats_server: NatsServer, bus: Bus, tmp_path: Path
) -> AsyncIterator[Loop]:
    """With a client that reads the streams, and with a tenant's own, which asks."""
    if request.param == "operator":
        async with running_loop(nats_server, tmp_path, bus) as loop:
            yield loop
        return
    async with asked_system(tmp_path, started=False) as asked:
        asked.loop.client = asked.tenant
        yield asked.loop


@pytest.fixture
def client(bus: Bus) -> Millrace:
    return Millrace(bus)


async def test_connecting_by_address(nats_server: NatsServer, bus: Bus) -> None:
    async with Millrace.connect(nats_server.url, nats_server.token) as client:
        task = await client.submit("plain", "x", session="s1")
        assert [fact.task for fact in await client.session("s1").history()] == [task.id]


async def test_events_of_a_task_are_its_own_and_end_with_it(either: Loop) -> None:
    await either.all()
    first = await either.client.submit("helper", "say one", session="s1")
    second = await either.client.submit("helper", "say two", session="s1")
    for task, text in ((second, "two"), (first, "one")):
        events = [event async for event in task.events()]
        assert {event.task for event in events} == {task.id}
        assert [event.kind for event in events if event.kind != "delta"] == [
            "task",
            "accepted",
            "inferred",
            "done",
        ]
        spoken = "".join(event.data.text for event in events if event.kind == "delta")
        assert spoken == text


async def test_a_repeated_task_id_changes_nothing(either: Loop) -> None:
    await either.all()
    for order in ("say first", "say second"):
        task = await either.client.submit("helper", order, session="s1", task="mine")
        assert (await task.result(40)).output == "first"
    history = await either.client.session("s1").history()
    assert [fact.kind for fact in history].count("task") == 1


async def test_the_same_task_id_in_another_tenant_is_another_task(loop: Loop) -> None:
    await loop.all()
    ours = await loop.client.submit("helper", "say ours", session="s1", task="same")
    other = loop.client.for_tenant("other")
    theirs = await other.submit("helper", "say theirs", session="s1", task="same")
    assert (await ours.result(40)).output == "ours"
    assert (await theirs.result(40)).output == "theirs"
    assert (await loop.client.find_task("same")).id == "same"
    assert {fact.ref.tenant for fact in await other.session("s1").history()} == {"other"}


async def test_a_task_found_by_its_id_is_followed_from_its_beginning(either: Loop) -> None:
    await either.all()
    await (await either.client.submit("helper", "say a", session="s1")).result(40)
    task = await either.client.submit("helper", "say b", session="s1")
    await task.result(40)
    found = await either.client.find_task(task.id)
    assert found.session == "s1"
    assert [e.kind async for e in found.events()][:2] == ["task", "accepted"]
    with pytest.raises(Permanent) as refused:
        await either.client.find_task("never")
    assert refused.value.code == "unknown_task"


async def test_a_conversation_can_be_brought_along(either: Loop) -> None:
    await either.all()
    said = [
        InputMessage(role="user", content="say a"),
        InputMessage(role="assistant", content="a"),
        InputMessage(role="user", content="say b"),
    ]
    assert (await (await either.client.submit("helper", said)).result(40)).output == "b"


async def test_a_result_that_does_not_come_in_time(client: Millrace) -> None:
    task = await client.submit("helper", "say x", session="s1")
    with pytest.raises(Transient) as late:
        await task.result(0.1)
    assert late.value.code == "still_running"


async def test_cancelling_without_a_sessions_service(client: Millrace) -> None:
    task = await client.submit("helper", "say x", session="s1")
    with pytest.raises(Transient) as away:
        await task.cancel()
    assert away.value.code == "no_responders"


async def test_cancelling_what_does_not_exist(either: Loop) -> None:
    await either.start("sessions")
    with pytest.raises(Permanent) as unknown:
        await either.client.task("never", "s1").cancel()
    assert unknown.value.code == "unknown_task"


@pytest.mark.parametrize(
    ("agent", "session", "task", "field"),
    [("a b", "s1", "t1", "agent"), ("a", "s.1", "t1", "session"), ("a", "s1", "ä", "task"),
     ("a", "_direct", "t1", "session")],
)  # fmt: skip
async def test_a_name_that_no_subject_can_hold(
    client: Millrace, agent: str, session: str, task: str, field: str
) -> None:
    with pytest.raises(Permanent) as refused:
        await client.submit(agent, "x", session=session, task=task)
    assert (refused.value.code, refused.value.field) == ("invalid_name", field)


async def test_an_input_beyond_all_bounds(client: Millrace) -> None:
    with pytest.raises(Permanent) as refused:
        await client.submit("helper", "x" * (claims.MOST + 1))
    assert refused.value.code == "payload_too_large"


async def test_documents_are_stored_listed_and_removed(client: Millrace) -> None:
    handbook = client.documents("handbook")
    first = await handbook.upsert("a/b ä", "text", {"k": "v"})
    second = await handbook.upsert("plain", "more")
    assert await handbook.upsert("plain", "most") > second > first
    found = await handbook.get("a/b ä")
    assert found is not None
    assert (found.text, found.metadata) == ("text", {"k": "v"})
    assert await handbook.list() == ["a/b ä", "plain"]
    await handbook.delete("plain")
    assert await handbook.get("plain") is None
    assert await handbook.list() == ["a/b ä"]
    assert await client.documents("other").list() == []
    assert await client.for_tenant("other").documents("handbook").list() == []


async def test_more_documents_than_the_server_answers_at_once(client: Millrace) -> None:
    many = client.documents("many")
    await asyncio.gather(*(many.upsert(f"d{n:04}", "x") for n in range(1100)))
    assert await many.list() == [f"d{n:04}" for n in range(1100)]


async def test_searching_without_a_retrieval_service(client: Millrace) -> None:
    with pytest.raises(Transient) as away:
        await client.documents().search("x")
    assert away.value.code == "no_responders"


async def test_a_stateless_completion(loop: Loop) -> None:
    await loop.all()
    request = DirectRequest(
        id="d1",
        tenant="default",
        model="default",
        messages=(ChatMessage(role="user", content="say hello"),),
    )
    events = [event async for event in loop.client.complete(request)]
    assert "".join(event.text or "" for event in events) == "hello"
    assert events[-1].done is not None
    assert events[-1].done.content == "hello"


async def test_a_stop_string_that_ended_a_completion_is_named(loop: Loop) -> None:
    await loop.all()
    request = DirectRequest(
        id="d1",
        tenant="default",
        model="default",
        messages=(ChatMessage(role="user", content="say one END two"),),
        sampling=Sampling(stop=("never", "END"), top_k=1),
    )
    *_, last = [event async for event in loop.client.complete(request)]
    assert last.done is not None
    assert (last.done.content, last.done.stop_string) == ("one ", "END")


async def test_a_prompt_that_is_only_counted_is_answered_and_charged_by_nobody(loop: Loop) -> None:
    await loop.all()
    messages = (ChatMessage(role="user", content="say hello"),)
    counted = DirectRequest(
        id="d1", tenant="default", model="default", messages=messages, count_only=True
    )
    [event] = [event async for event in loop.client.complete(counted)]
    assert event.done is not None
    assert (event.done.content, event.done.usage) == ("", Usage(input=len("user: say hello\n")))
    spoken = replace(counted, id="d2", count_only=False)
    assert [event async for event in loop.client.complete(spoken)]
    charged: list[str] = []
    async with asyncio.timeout(10):
        while not charged:  # the fact follows the answer
            facts = await loop.client.log.read(SessionRef("default", "_direct"))
            charged = [one.fact.id for one in facts if isinstance(one.fact, Completed)]
    assert charged == ["d2"]


async def test_a_stateless_completion_without_a_router(client: Millrace) -> None:
    request = DirectRequest(id="d1", tenant="default", model="default", messages=())
    with pytest.raises(Transient) as away:
        await anext(client.complete(request))
    assert away.value.code == "no_responders"


async def test_workers_and_agents(loop: Loop) -> None:
    await loop.all()
    assert [worker.worker for worker in await loop.client.workers()] == ["w1"]
    agents = await loop.client.agents()
    assert {"astray", "helper", "strict"} <= set(agents)
    assert agents["strict"][1].limits.max_steps == 3


async def test_a_session_is_read_on_from_a_place(either: Loop) -> None:
    await either.all()
    await (await either.client.submit("helper", "say x", session="s1")).result(40)
    session = either.client.session("s1")
    history = await session.history()
    assert [fact.seq for fact in await session.history(history[1].seq)] == [
        fact.seq for fact in history[2:]
    ]
    events = [event async for event in session.events(follow=False)]
    assert isinstance(events[-1].data, Done)
