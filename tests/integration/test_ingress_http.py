"""What only a real socket shows: clients that hang up, and completions during a shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anthropic
import httpx
import pytest
import uvicorn

from infra.local.broker import free_port
from services.ingress.adapters.http.app import Parts, build
from services.ingress.adapters.http.middleware import Bodies
from services.ingress.adapters.http.server import HttpProtocol, Server
from services.ingress.adapters.http.streams import Streams
from services.ingress.handlers.chat import ChatHandlers
from services.ingress.handlers.control import ControlHandlers
from services.ingress.handlers.conversations import ConversationHandlers
from services.ingress.handlers.embeddings import EmbeddingHandlers
from services.ingress.handlers.messages import MessageHandlers
from services.ingress.handlers.responses import ResponseHandlers
from services.ingress.handlers.schedules import ScheduleHandlers
from services.ingress.handlers.tasks import TaskHandlers
from services.ingress.handlers.usage import UsageHandlers
from shared.contracts.facts import Done, Timings, Usage
from shared.contracts.tokens import DirectEvent, DirectResult
from shared.errors import Transient
from tests.fakes.housekeeping import FakeHousekeeping
from tests.fakes.ingress_system import FakeSchedules, FakeSystem
from tests.fakes.keys import FakeKeys
from tests.fakes.ledger import FakeLedger
from tests.integration.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
CHAT = {"model": "default", "messages": [{"role": "user", "content": "Hello"}]}
URL = "/v1/chat/completions"
MESSAGE = CHAT | {"max_tokens": 9}
DONE = DirectEvent(
    done=DirectResult(
        content="42",
        tool_calls=(),
        finish="stop",
        usage=Usage(),
        model="nano",
        worker="w",
        timings=Timings(),
    )
)


@asynccontextmanager
async def served(system: FakeSystem) -> AsyncIterator[tuple[uvicorn.Server, httpx.AsyncClient]]:
    parts = Parts(
        chat=ChatHandlers(system, system, system, system),
        messages=MessageHandlers(system, system, system, system),
        tasks=TaskHandlers(system, system, system),
        control=ControlHandlers(system),
        responses=ResponseHandlers(system, system, FakeHousekeeping(), system),
        conversations=ConversationHandlers(system, FakeHousekeeping(), system),
        schedules=ScheduleHandlers(FakeSchedules(), system),
        embeddings=EmbeddingHandlers(system, system, system, system),
        documents=system,
        housekeeping=FakeHousekeeping(),
        keys=FakeKeys(),
        usage=UsageHandlers(FakeLedger(), "USD"),
        catalog=system,
        health=system,
    )
    port = free_port()
    streams = Streams()
    app = build(parts, host="127.0.0.1", bodies=Bodies(4096), streams=streams)
    config = uvicorn.Config(app, port=port, lifespan="off", log_config=None, http=HttpProtocol)
    server = Server(config, streams)
    running = asyncio.create_task(server.serve())
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10
    ) as http:
        await until(lambda: server.started)
        yield server, http
        server.should_exit = True
        await asyncio.wait_for(running, 20)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_hangs_up_aborts_its_completion(stream):
    system = FakeSystem(script=[DirectEvent(text="4")], hang=True)
    async with served(system) as (_, http):
        request = asyncio.create_task(http.post(URL, json=CHAT | {"stream": stream}))
        await until(lambda: system.requests)
        await asyncio.sleep(0.05)
        assert system.aborted == 0
        request.cancel()
        await until(lambda: system.aborted == 1)


async def test_a_viewer_that_hangs_up_is_let_go_and_the_task_stays():
    system = FakeSystem()
    async with served(system) as (_, http):
        task = (await http.post("/v1/tasks", json={"agent": "assistant", "input": "hi"})).json()
        async with http.stream("GET", task["events"]) as response:
            await anext(response.aiter_bytes())
            assert 'streams_open{kind="task"} 1.0' in (await http.get("/metrics")).text

        async def let_go() -> bool:
            return 'streams_open{kind="task"} 0.0' in (await http.get("/metrics")).text

        await until(let_go)
        assert [stored.kind for stored in system.log] == ["task"]


async def test_a_completion_may_finish_while_the_server_stops():
    go = asyncio.Event()
    system = FakeSystem(script=[DirectEvent(text="4"), DONE], gate=go)
    async with (
        served(system) as (server, http),
        http.stream("POST", URL, json=CHAT | {"stream": True}) as response,
    ):
        pieces = response.aiter_bytes()
        await anext(pieces)
        server.should_exit = True
        await asyncio.sleep(1.2)
        go.set()
        text = b"".join([piece async for piece in pieces])
    assert b"[DONE]" in text
    assert system.aborted == 0


async def test_an_agents_message_may_finish_while_the_server_stops():
    system = FakeSystem()
    ask = MESSAGE | {"model": "agent:assistant", "stream": True}
    async with (
        served(system) as (server, http),
        http.stream("POST", "/v1/messages", json=ask) as response,
    ):
        pieces = response.aiter_bytes()
        await anext(pieces)
        server.should_exit = True
        await asyncio.sleep(1.2)
        [order] = system.orders
        system.add(order.ref, Done(task=order.task, status="completed", output="42"))
        text = b"".join([piece async for piece in pieces])
    assert b"message_stop" in text


async def test_a_failure_in_the_stream_is_an_error_of_anthropics_client():
    system = FakeSystem(script=[DirectEvent(text="4"), Transient("request_timeout", "silent")])
    async with (
        served(system) as (_, http),
        anthropic.AsyncAnthropic(
            base_url=str(http.base_url),
            api_key="none",
            http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False),
        ) as client,
    ):
        with pytest.raises(anthropic.APIStatusError) as caught:
            async with client.messages.stream(**MESSAGE) as events:
                await events.get_final_message()
    assert caught.value.error_code == "request_timeout"
    assert caught.value.body["error"]["type"] == "timeout_error"


async def test_a_body_that_grows_too_long_is_cut_off():
    async with served(FakeSystem()) as (_, http):
        reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        head = "POST /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(5):
            writer.write(b"3e8\r\n" + b" " * 1000 + b"\r\n")
            await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 10)  # to the end: the connection closes
        writer.close()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"body_too_large" in answer
