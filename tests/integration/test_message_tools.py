"""Anthropic's client and an agent: its own tools in the durable loop, on a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import httpx2
import pytest
from anthropic import beta_async_tool
from fastapi import FastAPI

from services.ingress.adapters.bus import BusCatalog, BusCompletions, BusTasks, Link
from services.ingress.adapters.http.errors import install
from services.ingress.adapters.http.messages import messages_router
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.streams import Streams
from services.ingress.adapters.keyed import BusKeyed
from services.ingress.handlers.messages import MessageHandlers
from shared.bus.connect import Bus
from shared.contracts.facts import Approved, Steered
from shared.errors import Transient
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import LOG, Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
MINE = {"name": "mine", "input_schema": {"type": "object"}}
ASKED = {"role": "user", "content": "call mine"}


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        await loop.all()
        yield loop


@pytest.fixture
async def client(nats_server: NatsServer, loop: Loop) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Anthropic's client in front of an ingress of this process."""
    link = Link(LOG)
    tasks = BusTasks(link)
    handlers = MessageHandlers(
        BusCompletions(link), tasks, BusCatalog(link, ("default",)), BusKeyed(link)
    )
    api = FastAPI()
    api.state.streams = Streams()
    api.include_router(messages_router(handlers, Metrics()))
    install(api)
    transport = httpx2.ASGITransport(api)
    async with (
        link.open(nats_server.address),
        anthropic.AsyncAnthropic(
            base_url="http://ingress",
            api_key="none",
            max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(transport=transport),
        ) as client,
    ):
        await until(lambda: connected(link))
        yield client


async def connected(link: Link) -> bool:
    try:
        link.client()
    except Transient:
        return False
    return True


async def ask(client, *messages, **more):
    given = {"model": "agent:helper", "max_tokens": 99, "tools": [MINE]} | more
    return await client.messages.create(messages=[ASKED, *messages], **given)


def returned(message, result, *more):
    call = message.content[-1].id
    return (
        {"role": "assistant", "content": message.content},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call, "content": result}, *more],
        },
    )


async def test_the_clients_tool_is_asked_and_the_same_task_goes_on(client, loop):
    first = await ask(client)
    assert (first.stop_reason, first.content[-1].name) == ("tool_use", "mine")
    assert first.content[-1].input == {"n": 0}
    second = await ask(client, *returned(first, "42"))
    assert (second.stop_reason, second.content[0].text) == ("end_turn", "got 42")
    assert first.millrace == second.millrace
    task = loop.client.task(first.millrace["task"], first.millrace["session"])
    done = await task.result(30)
    spent = first.usage.output_tokens + second.usage.output_tokens
    assert done.totals.usage.output == spent
    again = await ask(client, *returned(first, "42"))
    assert (again.content, again.millrace) == (second.content, second.millrace)
    other = await ask(client, *returned(first, "43"))  # another history is another session
    assert other.content[0].text == "got 43"
    assert other.millrace["session"] != first.millrace["session"]
    assert len([one for one in await task.facts() if isinstance(one.fact, Approved)]) == 1


async def test_a_stream_of_both_turns(client, loop):
    given = {"model": "agent:helper", "max_tokens": 99, "tools": [MINE]}
    async with client.messages.stream(messages=[ASKED], **given) as events:
        first = await events.get_final_message()
    assert (first.stop_reason, first.content[-1].input) == ("tool_use", {"n": 0})
    history = [ASKED, *returned(first, "42")]
    async with client.messages.stream(messages=history, **given) as events:
        second = await events.get_final_message()
    assert [block.text for block in second.content] == ["got 42"]


async def test_the_clients_tool_loop_over_an_agent(client, loop):
    @beta_async_tool
    async def mine(n: int) -> str:
        """Whatever it is."""
        return f"mine{n}"

    runner = client.beta.messages.tool_runner(
        model="agent:helper", max_tokens=99, tools=[mine], messages=[ASKED]
    )
    assert (await runner.until_done()).content[0].text == "got mine0"


async def test_words_beside_a_result_are_heard(client, loop):
    first = await ask(client)
    second = await ask(client, *returned(first, "42", {"type": "text", "text": "say thanks"}))
    assert second.stop_reason == "end_turn"
    task = loop.client.task(first.millrace["task"], first.millrace["session"])
    steered = [one.fact.text for one in await task.facts() if isinstance(one.fact, Steered)]
    assert steered == ["say thanks"]


async def test_a_history_with_calls_of_elsewhere_enters_a_new_session(client, loop):
    use = {"type": "tool_use", "id": "toolu_1", "name": "mine", "input": {"n": 1}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "7"}
    history = ({"role": "assistant", "content": [use]}, {"role": "user", "content": [result]})
    answer = await ask(client, *history)
    assert answer.content[0].text == "got 7"


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"model": "agent:careful"}, "unknown_call", "messages.2.content"),
        ({"extra_headers": {"Millrace-Session": "s9"}}, "unknown_call", "messages.2.content"),
        ({"tools": [MINE | {"name": "shout"}]}, "duplicate_tool", "tools.0.name"),
    ],
)
async def test_results_that_do_not_fit_are_refused(client, loop, more, code, param):
    first = await ask(client)
    with pytest.raises(anthropic.BadRequestError) as caught:
        await ask(client, *returned(first, "42"), **more)
    assert (caught.value.error_code, caught.value.body["error"]["param"]) == (code, param)
