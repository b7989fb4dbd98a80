"""Traces as a collector gets them, of a loop on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from services.tools.adapters.knowledge import BusKnowledge
from services.tracing.__main__ import serve
from shared.bus.connect import Bus, open_bus
from shared.bus.edge import answer, make_broker
from shared.client import Millrace
from shared.contracts.base import SessionRef
from shared.contracts.retrieval import SearchReply, SearchRequest
from shared.contracts.tasks import child_of
from shared.contracts.work import RunTool
from shared.errors import Permanent, Transient
from shared.otlp import OtelSettings
from shared.otlp.sdk import Live
from shared.subjects import SEARCH, task_subject
from shared.telemetry import Handled, configure, handled, handling
from shared.trace import TraceContext, span_id_of, trace_id_of
from tests.fakes.collector import Collector, Seen, collector
from tests.integration.broker_process import NatsServer
from tests.integration.ingress_system import Ingress, ingress
from tests.integration.running_loop import Loop, running_loop
from tests.integration.service_processes import MODELS
from tests.integration.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]
REF = SessionRef("default", "s1")
CLIENT = TraceContext("ab" * 16, "cd" * 8)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as found:
        for name, value in found.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        yield found


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    (tmp_path / "boss.yaml").write_text('agents: {helper: "Does it."}\ntools: [shout]')
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


@asynccontextmanager
async def tracing(server: NatsServer) -> AsyncIterator[None]:
    """The service, on a connection of its own."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(
            open_bus(server.address(), "tracing", configure("test", "critical"))
        )
        running = asyncio.create_task(serve(OtelSettings(), bus, stop))
        try:
            yield
        finally:
            stop.set()
            await running


async def told(receiver: Collector, task: str, count: int) -> list[Seen]:
    await until(lambda: len(receiver.of_task(task)) >= count)
    return receiver.of_task(task)


def one(spans: list[Seen], name: str, step: int | None = None) -> Seen:
    (found,) = [
        span
        for span in spans
        if span.name == name and step in (None, span.attributes.get("millrace.step"))
    ]
    return found


async def test_a_task_with_two_tools_is_one_connected_trace(
    loop: Loop, nats_server: NatsServer, receiver: Collector
) -> None:
    await loop.all()
    async with tracing(nats_server):
        task = await loop.client.submit("helper", "tools 2", session="s1", traceparent=str(CLIENT))
        assert (await task.result(40)).output == "got shout0 shout1"
        spans = await told(receiver, task.id, 7)
    assert sorted(span.name for span in spans) == [
        *("chat nano", "chat nano", "execute_tool shout", "execute_tool shout"),
        *("invoke_agent helper", "route", "route"),
    ]
    root = one(spans, "invoke_agent helper")
    assert (root.trace_id, root.parent_id) == (CLIENT.trace_id, CLIENT.span_id)
    assert {(span.trace_id, span.parent_id) for span in spans if span is not root} == {
        (CLIENT.trace_id, root.span_id)
    }
    assert {span.service for span in spans} == {
        *("millrace-sessions", "millrace-router", "millrace-inference", "millrace-tools"),
    }
    chat = one(spans, "chat nano", 0)
    assert chat.attributes["gen_ai.usage.input_tokens"]
    assert chat.attributes["millrace.worker"] == "w1"
    assert one(spans, "route", 0).attributes["millrace.placed"] == "emptiest"
    assert all(root.start <= span.start <= span.end <= root.end for span in spans)
    assert one(spans, "execute_tool shout", 1).start >= chat.start
    facts = await task.facts()
    assert {fact.trace_id for fact in facts} == {CLIENT.trace_id}, "every message is of the trace"


async def test_a_bare_publish_has_a_trace_of_its_own(
    loop: Loop, nats_server: NatsServer, receiver: Collector, bus: Bus
) -> None:
    """Any NATS client may submit, and say nothing of itself."""
    await loop.all()
    async with tracing(nats_server):
        headers = {"Nats-Msg-Id": "bare"}
        await bus.publish(task_subject(REF, "helper"), b'{"input": "say hello"}', headers)
        spans = await told(receiver, "bare", 3)
    root = one(spans, "invoke_agent helper")
    assert (root.trace_id, root.parent_id) == (trace_id_of(REF, "bare"), "")


async def test_a_lost_worker_s_attempt_is_a_sibling_of_the_one_that_answered(
    loop: Loop, nats_server: NatsServer, receiver: Collector
) -> None:
    loop.seconds_per_token = 0.3
    await loop.all()
    async with tracing(nats_server):
        task = await loop.client.submit("helper", "say hello", session="s1")
        await until(lambda: loop.engine("w1").stats().running)
        await loop.crash("w1")
        loop.seconds_per_token = 0.0
        await loop.start("w2")
        assert (await task.result(30)).output == "hello"
        spans = await told(receiver, task.id, 4)
    chats = [span for span in spans if span.name == "chat nano"]
    lost, answered = chats
    assert lost.failed
    assert lost.attributes["error.type"] == "attempt_lost"
    assert lost.attributes["millrace.attempt"] == 1
    assert answered.attributes["millrace.worker"] == "w2"
    assert isinstance(answered.attributes["millrace.attempt"], int)
    assert answered.attributes["millrace.attempt"] > 1
    assert lost.parent_id == answered.parent_id == one(spans, "invoke_agent helper").span_id


async def test_the_task_of_another_agent_is_a_part_of_the_step_that_asked(
    loop: Loop, nats_server: NatsServer, receiver: Collector
) -> None:
    await loop.all()
    async with tracing(nats_server):
        task = await loop.client.submit("boss", "ask helper: steps 1", session="s1")
        await task.result(40)
        spans = await told(receiver, task.id, 6)
        _, below = child_of(REF, task.id, 1)
        found = await told(receiver, below, 6)
    asking = one(spans, "execute_tool ask_helper")
    child = one(found, "invoke_agent helper")
    assert (child.trace_id, child.parent_id) == (asking.trace_id, asking.span_id)
    assert asking.start <= child.start <= child.end


async def test_what_the_clients_sampler_left_out_is_not_told_nor_is_what_it_asked(
    loop: Loop, nats_server: NatsServer, receiver: Collector
) -> None:
    await loop.all()
    unwanted = str(TraceContext("12" * 16, "34" * 8, sampled=False))
    async with tracing(nats_server):
        task = await loop.client.submit(
            "boss", "ask helper: steps 1", session="s1", traceparent=unwanted
        )
        await task.result(40)
        wanted = await loop.client.submit("helper", "say hello", session="s2")
        await wanted.result(40)
        await told(receiver, wanted.id, 3)
    assert {span.trace_id for span in receiver.spans} == {
        trace_id_of(SessionRef("default", "s2"), wanted.id)
    }


async def test_a_collector_that_was_away_gets_every_trace_under_the_same_ids(
    loop: Loop, nats_server: NatsServer, receiver: Collector
) -> None:
    await loop.all()
    receiver.status = 503
    tasks = [await loop.client.submit("helper", f"say {n}", session=f"s{n}") for n in range(3)]
    async with tracing(nats_server):
        for task in tasks:
            assert (await task.result(40)).status == "completed", "nobody waits for the collector"
        await until(lambda: receiver.requests)
    assert not receiver.spans, "and this service may even have been stopped meanwhile"
    receiver.status = 200
    async with tracing(nats_server):
        for task in tasks:
            await told(receiver, task.id, 3)
    for n, task in enumerate(tasks):
        root = one(receiver.of_task(task.id), "invoke_agent helper")
        assert root.span_id == span_id_of(SessionRef("default", f"s{n}"), task.id)


async def test_a_slow_collector_holds_up_nothing(
    loop: Loop, nats_server: NatsServer, receiver: Collector
) -> None:
    await loop.all()
    receiver.delay = 0.7
    async with tracing(nats_server):
        for n in range(5):
            task = await loop.client.submit("helper", f"say {n}", session="s1")
            await task.result(40)
        assert len(receiver.named("invoke_agent helper")) < 5, "the loop was faster"
        await until(lambda: len(receiver.named("invoke_agent helper")) == 5)
        assert receiver.requests < 5, "what came meanwhile was sent together"


async def test_a_fork_tells_what_it_did_itself_below_what_it_goes_on_from(
    loop: Loop, nats_server: NatsServer, receiver: Collector
) -> None:
    await loop.all()
    async with tracing(nats_server):
        task = await loop.client.submit("helper", "steps 2", session="s1", traceparent=str(CLIENT))
        await task.result(40)
        await told(receiver, task.id, 9)
        await loop.client.fork("s1", at=3, name="s2")
        await until(lambda: len(receiver.named("invoke_agent helper")) == 2)
    first, second = receiver.named("invoke_agent helper")
    own = [span for span in receiver.spans if span.attributes["gen_ai.conversation.id"] == "s2"]
    assert (second.trace_id, second.parent_id) == (CLIENT.trace_id, first.span_id)
    assert min(span.start for span in own) == second.start > first.end
    steps = {span.attributes.get("millrace.step", 3) for span in own}
    assert min(map(int, map(str, steps))) == 3, "what came before is told there"


async def test_a_task_that_never_began_has_a_trace_too(
    loop: Loop, nats_server: NatsServer, receiver: Collector
) -> None:
    await loop.all()
    async with tracing(nats_server):
        task = await loop.client.submit("nobody", "hello", session="s1", traceparent=str(CLIENT))
        done = await task.result(40)
        (root,) = await told(receiver, task.id, 1)
    assert done.error
    assert (root.name, root.attributes["error.type"]) == ("invoke_agent nobody", done.error.code)
    assert (root.parent_id, root.failed) == (CLIENT.span_id, True)
    assert root.seconds > 0, "it begins with its submission"


async def test_what_people_do_to_a_task_is_of_its_trace(
    loop: Loop, nats_server: NatsServer, receiver: Collector
) -> None:
    hanging, release = asyncio.Event(), asyncio.Event()

    async def hang(_work: RunTool) -> str:
        hanging.set()
        await release.wait()
        return ""

    loop.run_call = hang
    await loop.all()
    async with tracing(nats_server):
        task = await loop.client.submit(
            "helper", "call hang", session="s1", traceparent=str(CLIENT)
        )
        await asyncio.wait_for(hanging.wait(), 20)
        await task.steer("in German")
        await task.cancel()
        assert (await task.result(40)).status == "cancelled"
        release.set()
        spans = await told(receiver, task.id, 3)
    assert {fact.trace_id for fact in await task.facts()} == {CLIENT.trace_id}
    root = one(spans, "invoke_agent helper")
    assert root.events == ("accepted", "steered", "cancelled")
    assert (root.failed, root.attributes["millrace.status"]) == (False, "cancelled")


async def test_a_tool_call_is_as_long_as_it_took(
    loop: Loop, nats_server: NatsServer, receiver: Collector
) -> None:
    async def slowly(_work: RunTool) -> str:
        await asyncio.sleep(0.4)
        return "done"

    loop.run_call = slowly
    await loop.all()
    async with tracing(nats_server):
        task = await loop.client.submit("helper", "tools 1", session="s1")
        await task.result(40)
        spans = await told(receiver, task.id, 6)
    assert one(spans, "execute_tool shout").seconds >= 0.4
    assert one(spans, "invoke_agent helper").seconds >= 0.4


@asynccontextmanager
async def front(server: NatsServer, folder: Path, loop: Loop) -> AsyncIterator[Ingress]:
    """A real ingress before the loop; the loop's worker tells of completions."""
    (folder / "models.yaml").write_text(MODELS)
    live = Live(OtelSettings())
    loop.spans = live.spans
    await loop.all()
    where = {"MILLRACE_NATS_URL": server.url, "MILLRACE_NATS_TOKEN": server.token}
    try:
        async with ingress(folder, MILLRACE_MODELS=str(folder / "models.yaml"), **where) as found:
            await found.ready("retrieval", "ledger")
            yield found
    finally:
        await live.close()


async def test_requests_over_http_are_above_what_they_ask_for(
    loop: Loop, nats_server: NatsServer, receiver: Collector, tmp_path: Path
) -> None:
    body = {"agent": "helper", "input": "say hello", "session": "s1"}
    chat = {"model": "default", "messages": [{"role": "user", "content": "say hi"}]}
    waiting = {"traceparent": str(CLIENT), "Prefer": "wait=20"}
    async with tracing(nats_server), front(nats_server, tmp_path, loop) as system:
        answer = await system.http.post("/v1/tasks", json=body, headers=waiting)
        assert answer.json()["state"] == "completed", answer.text
        spans = await told(receiver, answer.json()["task"], 3)
        said = await system.http.post("/v1/chat/completions", json=chat)
        assert said.status_code == 200, said.text
        trace = said.headers["x-trace-id"]
        await until(lambda: len([one for one in receiver.spans if one.trace_id == trace]) == 2)
        assert (await system.http.get("/readyz")).status_code in (200, 503)
        lost = await system.http.get("/v1/tasks/nobody")
        await until(lambda: receiver.named("GET /v1/tasks/{task}"))
    asked = one(receiver.named("POST /v1/tasks"), "POST /v1/tasks")
    root = one(spans, "invoke_agent helper")
    assert (asked.trace_id, asked.parent_id) == (CLIENT.trace_id, CLIENT.span_id)
    assert (root.trace_id, root.parent_id) == (asked.trace_id, asked.span_id)
    assert answer.headers["traceparent"] == f"00-{asked.trace_id}-{asked.span_id}-01"
    assert (asked.service, asked.attributes["http.response.status_code"]) == (
        *("millrace-ingress",),
        answer.status_code,
    )
    request = one(receiver.named("POST /v1/chat/completions"), "POST /v1/chat/completions")
    model = one(receiver.named("chat nano", trace), "chat nano")
    assert (model.parent_id, request.parent_id) == (request.span_id, "")
    assert model.attributes["gen_ai.usage.output_tokens"]
    assert model.attributes["gen_ai.response.id"] == said.json()["id"]
    missed = one(receiver.named("GET /v1/tasks/{task}"), "GET /v1/tasks/{task}")
    assert (missed.failed, missed.attributes["http.response.status_code"]) == (False, 404)
    assert lost.status_code == 404
    assert not receiver.named("GET /readyz"), "probes tell nobody anything"
    assert "hello" not in repr(receiver.spans), "what was said is nobody's business"


async def test_a_question_to_another_service_says_on_whose_behalf(
    nats_server: NatsServer, bus: Bus
) -> None:
    said: list[dict[str, object]] = []

    async def search(_question: SearchRequest) -> SearchReply:
        said.append((handled() or Handled()).fields())
        return SearchReply()

    broker = make_broker(nats_server.address(), "retrieval")
    answer(broker, bus, SEARCH, SearchRequest, search, lambda failure: SearchReply(error=failure))
    await broker.start()
    try:
        headers = {"Nats-Msg-Id": "default/s1/t1.2/work", "traceparent": str(CLIENT)}
        handling(Handled("work.tool.search_knowledge", headers))
        question = SearchRequest(tenant="default", collection="a", query="x")

        async def heard() -> bool:  # the server may not know yet who answers
            with suppress(Transient):
                await BusKnowledge(bus).search(question)
            return bool(said)

        await until(heard)
    finally:
        await broker.stop()
    base = {"tenant": "default", "session": "s1", "task": "t1", "step": 2}
    assert said == [base | {"trace_id": CLIENT.trace_id}]


async def test_a_malformed_context_is_refused_by_name(bus: Bus) -> None:
    with pytest.raises(Permanent) as refused:
        await Millrace(bus).submit("helper", "say hello", traceparent="00-1-2-3")
    assert (refused.value.code, refused.value.field) == ("invalid_traceparent", "traceparent")
