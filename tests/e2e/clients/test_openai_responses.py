"""OpenAI's own client and `/v1/responses`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import httpx
import openai
import pytest
import pytest_asyncio
from openai.types.responses import ResponseFunctionToolCall

from shared.transcript import Transcript
from tests.e2e.clients.fronts import Fronts
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="package"),
]
TOOL = {
    "type": "function",
    "name": "mine",
    "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
    "strict": False,
}


@pytest_asyncio.fixture(loop_scope="package")
async def client(fronts: Fronts) -> AsyncIterator[openai.AsyncOpenAI]:
    async with fronts.client() as client:
        yield client


@pytest_asyncio.fixture(loop_scope="package")
async def other(fronts: Fronts) -> AsyncIterator[openai.AsyncOpenAI]:
    """The other replica."""
    async with fronts.client(1) as client:
        yield client


def call_of(response: object) -> ResponseFunctionToolCall:
    (call,) = (item for item in response.output if item.type == "function_call")  # type: ignore[attr-defined]
    return call


def output(call: ResponseFunctionToolCall, text: str) -> dict[str, str]:
    return {"type": "function_call_output", "call_id": call.call_id, "output": text}


async def test_a_question_and_its_answer(client, other) -> None:
    response = await client.responses.create(
        model="default", input="say hello", instructions="Be kind.", metadata={"ticket": "7"}
    )
    assert (response.status, response.output_text) == ("completed", "hello")
    assert response.usage.output_tokens > 0
    assert (response.instructions, response.metadata) == ("Be kind.", {"ticket": "7"})
    again = await other.responses.retrieve(response.id)
    assert again.model_dump() == response.model_dump()
    items = await other.responses.input_items.list(response.id)
    assert [item.content[0].text for item in items.data] == ["say hello"]
    await other.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)


async def test_the_events_of_a_stream(client) -> None:
    text = "hello " * 40
    stream = await client.responses.create(model="default", input=f"say {text}", stream=True)
    events = [event async for event in stream]
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(said) > 2
    assert "".join(said) == events[-1].response.output_text == text.rstrip() + " "


async def test_the_helper_that_puts_a_stream_together(client) -> None:
    async with client.responses.stream(model="default", input="say hello") as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert final.output_text == "hello"


async def test_a_tool_of_the_client_goes_on_at_another_replica(client, other) -> None:
    ask = {"model": "agent:helper", "tools": [TOOL]}
    first = await client.responses.create(input="call mine", **ask)
    call = call_of(first)
    assert (first.status, call.name, call.status) == ("completed", "mine", "completed")
    given = {"previous_response_id": first.id, "input": [output(call, "42")]}
    second = await other.responses.create(**given, **ask)
    assert second.output_text == "got 42"
    assert second.id != first.id
    repeated = await client.responses.create(**given, **ask)
    assert repeated.id == second.id
    items = (await client.responses.input_items.list(second.id)).data
    assert [(item.type, item.output) for item in items] == [("function_call_output", "42")]
    third = await client.responses.create(previous_response_id=second.id, input="say bye", **ask)
    assert third.output_text == "bye"
    with pytest.raises(openai.BadRequestError, match="missing_tool_output"):
        await client.responses.create(previous_response_id=first.id, input="say no", **ask)


async def test_a_whole_history_goes_on_with_the_same_task(fronts, client, other) -> None:
    """As the agents SDK sends it by default."""
    ask = {"model": "default", "tools": [TOOL]}
    user = {"role": "user", "content": "call mine"}
    first = await client.responses.create(input=[user], **ask)
    call = call_of(first)
    history = [user, *(item.model_dump() for item in first.output), output(call, "42")]
    raw = await other.responses.with_raw_response.create(input=history, **ask)
    assert raw.parse().output_text == "got 42"
    task = raw.headers["Millrace-Task"]
    assert task in first.id
    assert task in raw.parse().id


async def test_a_history_of_elsewhere_enters_a_new_session(client) -> None:
    call = {"type": "function_call", "call_id": "call_x", "name": "mine", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "call_x", "output": "42"}
    user = {"role": "user", "content": [{"type": "input_text", "text": "call mine"}]}
    answer = await client.responses.create(
        model="default", input=[user, call, result], tools=[TOOL]
    )
    assert answer.output_text == "got 42"
    for bad, code in (([user, call], "missing_tool_output"), ([user, result], "unknown_call")):
        with pytest.raises(openai.BadRequestError, match=code):
            await client.responses.create(model="default", input=bad)


async def test_tools_of_the_agent_are_shown_and_not_the_clients_to_run(client) -> None:
    stream = await client.responses.create(model="agent:helper", input="tools 2", stream=True)
    events = [event async for event in stream]
    response = events[-1].response
    kinds = [item.type for item in response.output]
    assert kinds == ["mcp_call", "mcp_call", "message"]
    assert sorted(item.output for item in response.output[:2]) == ["shout0", "shout1"]
    assert sum(event.type == "response.mcp_call.completed" for event in events) == 2
    follow = await client.responses.create(
        model="agent:helper",
        input=[
            {"role": "user", "content": "tools 2"},
            *(item.model_dump() for item in response.output),
            {"role": "user", "content": "say bye"},
        ],
    )
    assert follow.output_text == "bye"


async def test_going_on_from_an_older_response_branches(client) -> None:
    first = await client.responses.create(model="default", input="say one")
    second = await client.responses.create(
        model="default", input="say two", previous_response_id=first.id
    )
    raw = await client.responses.with_raw_response.create(
        model="default", input="say three", previous_response_id=first.id
    )
    branch = raw.parse()
    assert (second.output_text, branch.output_text) == ("two", "three")
    items = (await client.responses.input_items.list(branch.id, order="asc")).data
    assert [item.content[0].text for item in items] == ["say one", "one", "say three"]
    with pytest.raises(openai.ConflictError):
        await client.responses.delete(first.id)


async def test_the_same_key_asks_once(client, other) -> None:
    first = await client.responses.create(model="default", input="say one")
    ask = {"model": "default", "input": "say two", "previous_response_id": first.id}
    key = {"Idempotency-Key": f"key-{first.id}"}
    second = await client.responses.create(**ask, extra_headers=key)
    again = await other.responses.create(**ask, extra_headers=key)
    assert again.id == second.id
    assert (await client.responses.create(**ask)).id != second.id


async def test_a_key_of_results_is_of_one_request_at_every_replica(client, other) -> None:
    ask = {"model": "default", "tools": [TOOL]}
    first = await client.responses.create(input="call mine", **ask)
    given = {"previous_response_id": first.id, "input": [output(call_of(first), "42")]}
    key = {"Idempotency-Key": f"results-{first.id}"}
    second = await client.responses.create(**given, **ask, extra_headers=key)
    again = await other.responses.create(**given, **ask, extra_headers=key)
    assert (again.id, again.output_text) == (second.id, "got 42")
    changed = given | {"input": [output(call_of(first), "43")]}
    with pytest.raises(openai.ConflictError, match="idempotency_conflict"):
        await other.responses.create(**changed, **ask, extra_headers=key)


async def test_what_is_too_long_is_shortened_where_that_is_asked_for(client) -> None:
    said = [{"role": "user", "content": "x" * 3_000} for _ in range(8)]
    ask = {"model": "default", "input": [*said, {"role": "user", "content": "say short"}]}
    with pytest.raises(openai.APIStatusError, match="context_too_long"):
        await client.responses.create(**ask)
    response = await client.responses.create(**ask, truncation="auto", max_output_tokens=99)
    assert (response.output_text, response.truncation) == ("short", "auto")
    assert response.usage.input_tokens < 16_384


async def test_words_behind_results_are_heard_and_not_taken_for_a_repetition(client) -> None:
    ask = {"model": "default", "tools": [TOOL]}
    first = await client.responses.create(input="call mine", **ask)
    given = [output(call_of(first), "42"), {"role": "user", "content": "say quick"}]
    second = await client.responses.create(input=given, previous_response_id=first.id, **ask)
    assert second.output_text == "quick"
    other = [given[0], {"role": "user", "content": "say slow"}]
    third = await client.responses.create(input=other, previous_response_id=first.id, **ask)
    assert third.output_text == "slow"
    assert third.id.rpartition("_")[0] != second.id.rpartition("_")[0]


async def test_in_the_background(client, other) -> None:
    response = await client.responses.create(model="default", input="say later", background=True)
    assert response.status in ("queued", "in_progress", "completed")
    async with asyncio.timeout(20):
        while response.status in ("queued", "in_progress"):
            await asyncio.sleep(0.05)
            response = await other.responses.retrieve(response.id)
    assert response.output_text == "later"


async def test_a_response_is_cancelled(client, other) -> None:
    response = await client.responses.create(
        model="agent:careful", input="call pay", background=True
    )
    stopped = await other.responses.cancel(response.id)
    assert stopped.status == "cancelled"
    again = await client.responses.cancel(response.id)
    assert again.status == "cancelled"
    events = [event async for event in await client.responses.retrieve(response.id, stream=True)]
    assert [event.type for event in events][:2] == ["response.created", "response.queued"]
    assert events[-1].response.status == "cancelled"


async def test_what_is_not_stored_is_gone(fronts, client) -> None:
    raw = await client.responses.with_raw_response.create(
        model="default", input="say hush", store=False
    )
    response = raw.parse()
    assert (response.output_text, response.store) == ("hush", False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)
    async with fronts.http() as http:
        path = f"/v1/sessions/{raw.headers['Millrace-Session']}"

        async def gone() -> bool:
            return (await http.get(path)).status_code == 404

        await until(gone)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"model": "agent:helper", "max_tool_calls": 1}, "max_tool_calls"),
        ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"model": "nothing"}, "model"),
        ({"model": "agent:nobody"}, "model"),
        ({"previous_response_id": "resp_none_0"}, "response_id"),
        ({"input": [{"type": "item_reference", "id": "msg_none_0"}]}, "input.0.id"),
        ({"input": []}, "input"),
        ({"conversation": "nowhere"}, "conversation"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(client, given, param) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await client.responses.create(**({"model": "default", "input": "say x"} | given))
    assert caught.value.status_code in (400, 404, 422)
    assert caught.value.body["param"] == param


async def test_a_name_that_the_agent_has_already(client) -> None:
    tool = TOOL | {"name": "shout"}
    with pytest.raises(openai.APIStatusError, match="duplicate_tool"):
        await client.responses.create(model="agent:helper", input="say x", tools=[tool])


def cut(text: str, random: Random) -> str:
    """What came through before the connection broke: whole events, and a torn one."""
    return text[: random.randrange(len(text))]


async def test_a_stream_resumed_anywhere_is_the_uninterrupted_one(fronts: Fronts) -> None:
    """Byte for byte, through random disconnects at two replicas."""
    random = Random(7)  # noqa: S311  # no secret
    body = {"model": "agent:helper", "input": "tools 3", "stream": True, "tools": [TOOL]}
    async with fronts.http() as http, fronts.http(1) as second:
        whole = (await http.post("/v1/responses", json=body)).text
        name = whole.partition('"id":"')[2].partition('"')[0]
        path = f"/v1/responses/{name}"
        again = (await second.get(path, params={"stream": True})).text
        assert again == whole
        for _ in range(12):
            assert await resumed(fronts, random, path) == whole


async def resumed(fronts: Fronts, random: Random, path: str) -> str:
    """The stream in pieces, each from another place."""
    got, after = "", None
    while "response.completed" not in got:
        params = {"stream": True} | ({} if after is None else {"starting_after": after})
        async with httpx.AsyncClient(base_url=random.choice(fronts.urls), trust_env=False) as http:
            piece = (await http.get(path, params=params)).text
        kept = piece if random.random() < 0.2 else cut(piece, random)
        events = kept.split("\n\n")[:-1]
        got += "".join(event + "\n\n" for event in events)
        if events:
            after = int(events[-1].partition('"sequence_number":')[2].split(",")[0].rstrip("}"))
    return got


async def test_a_conversation_remembers_what_was_set_down_in_it(client, other) -> None:
    items = [
        {"role": "user", "content": "say one"},
        {"role": "assistant", "content": "one"},
    ]
    talk = await client.conversations.create(items=items, metadata={"ticket": "7"})
    assert (await other.conversations.retrieve(talk.id)).metadata == {"ticket": "7"}
    answer = await other.responses.create(model="default", input="say two", conversation=talk.id)
    assert (answer.output_text, answer.conversation.id) == ("two", talk.id)
    await client.conversations.items.create(talk.id, items=[{"role": "user", "content": "three"}])
    listed = [item async for item in other.conversations.items.list(talk.id, order="asc", limit=2)]
    texts = [item.content[0].text for item in listed]
    assert texts == ["say one", "one", "say two", "two", "three"]
    found = await client.conversations.items.retrieve(listed[3].id, conversation_id=talk.id)
    assert found == listed[3]
    updated = await client.conversations.update(talk.id, metadata={"ticket": "8"})
    assert updated.metadata == {"ticket": "8"}
    await client.conversations.delete(talk.id)
    with pytest.raises(openai.NotFoundError):
        await other.conversations.retrieve(talk.id)


async def test_a_hidden_item_is_hidden_from_models_too(fronts, client) -> None:
    talk = await client.conversations.create()
    ask = {"model": "agent:helper", "conversation": talk.id, "tools": [TOOL]}
    first = await client.responses.create(input="call mine", **ask)
    second = await client.responses.create(input=[output(call_of(first), "42")], **ask)
    assert second.output_text == "got 42"
    listed = (await client.conversations.items.list(talk.id, order="asc")).data
    assert [item.type for item in listed] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]
    with pytest.raises(openai.ConflictError, match="item_has_call"):
        await client.conversations.items.delete(listed[2].id, conversation_id=talk.id)
    await client.conversations.items.delete(listed[1].id, conversation_id=talk.id)
    left = (await client.conversations.items.list(talk.id, order="asc")).data
    assert [item.type for item in left] == ["message", "message"]
    history = await fronts.loop.client.session(talk.id).history()
    shown = [one["role"] for one in Transcript().fold(history).messages()]
    assert shown == ["system", "user", "assistant"]


async def test_what_is_stored_does_not_go_with_what_is_not(client, other) -> None:
    ask = {"model": "default", "tools": [TOOL]}
    first = await client.responses.create(input="call mine", **ask)
    given = {"previous_response_id": first.id, "input": [output(call_of(first), "42")]}
    hidden = await client.responses.create(**given, **ask, store=False)
    assert hidden.output_text == "got 42"
    shown = await other.responses.create(**given, **ask)
    assert shown.output_text == "got 42"
    assert shown.id.rpartition("_")[0] == first.id.rpartition("_")[0]
    last = await client.responses.create(
        input="say bye", previous_response_id=shown.id, store=False, **ask
    )
    assert last.output_text == "bye"
    assert (await other.responses.retrieve(shown.id)).output_text == "got 42"


async def test_results_for_the_calls_of_another_response_are_refused(client) -> None:
    ask = {"model": "default", "tools": [TOOL]}
    first = await client.responses.create(input="call mine", **ask)
    second = await client.responses.create(input="say hello", **ask)
    with pytest.raises(openai.BadRequestError, match="unknown_call"):
        await client.responses.create(
            previous_response_id=second.id, input=[output(call_of(first), "42")], **ask
        )


async def test_a_task_is_no_response_and_its_session_no_conversation(fronts, client) -> None:
    task = await fronts.loop.client.submit("helper", "say secret", session="of-tasks")
    await task.result(40)
    for look in (
        client.responses.retrieve(f"resp_{task.id}_0"),
        client.responses.create(
            model="default", input="x", previous_response_id=f"resp_{task.id}_0"
        ),
        client.conversations.retrieve("of-tasks"),
        client.conversations.delete("of-tasks"),
        client.responses.create(model="default", input="x", conversation="of-tasks"),
    ):
        with pytest.raises(openai.NotFoundError):
            await look


async def test_a_conversation_is_locked_while_it_waits(client) -> None:
    talk = await client.conversations.create()
    ask = {"model": "agent:careful", "conversation": talk.id}
    running = await client.responses.create(input="call pay", background=True, **ask)
    with pytest.raises(openai.ConflictError):
        await client.responses.create(input="say x", **ask)
    await client.responses.cancel(running.id)
    empty = await client.conversations.create()
    await client.conversations.delete(empty.id)
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(empty.id)
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.create(
            "conv_none", items=[{"role": "user", "content": "x"}]
        )
