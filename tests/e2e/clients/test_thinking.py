"""What a model thinks, as the unmodified clients of OpenAI and Anthropic see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import anthropic
import openai
import pytest
import pytest_asyncio

from services.inference.core.chat import ChatTemplate
from services.inference.core.dialect import Dialect
from services.inference.handlers import EngineChat, Model
from services.inference.ports import GenerateRequest
from tests.e2e.clients.fronts import Fronts, running_fronts
from tests.fakes.instant_engine import InstantEngine, InstantOptions
from tests.fakes.scripted_model import CONTEXT, END, TEMPLATE, ByteTokenizer, answer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]
CLOSED = "<think>\n\n</think>\n"
RECALLING = TEMPLATE.replace(
    "{% endfor %}",
    "{% if m.reasoning_content %}recalled: {{ m.reasoning_content }}\n{% endif %}{% endfor %}",
)
SWITCH = (
    f"{RECALLING}{{% if enable_thinking is defined and not enable_thinking %}}{CLOSED}{{% endif %}}"
)
TOOL = {"type": "function", "name": "mine", "parameters": {"type": "object"}}
HELLO = [{"role": "user", "content": "say hello"}]
ON = {"type": "enabled", "budget_tokens": 1024}


def script(request: GenerateRequest) -> Sequence[int]:
    """It thinks before each answer, unless the prompt has closed its thoughts, and says where it
    is shown what it thought before in this turn."""
    prompt = bytes(request.prompt).decode()
    said = answer(prompt.removesuffix(CLOSED))
    again = "Again? " if "recalled: Hm." in prompt else ""
    thought = "" if prompt.endswith(CLOSED) else f"<think>\n{again}Hm. What now?\n</think>\n\n"
    return [*f"{thought}{said}".encode(), END]


def thinker(worker: str) -> Model:
    options = InstantOptions(
        vocabulary=END + 1, context_tokens=CONTEXT, kv_blocks=CONTEXT, seconds_per_token=0.001
    )
    engine, template = InstantEngine(script, options), ChatTemplate(SWITCH, ())
    dialect = Dialect("hermes", "qwen3")
    chat = EngineChat(engine, ByteTokenizer(), template, CONTEXT, dialect=dialect)
    return Model("nano", worker, chat)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def thinking(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fronts]:
    async with running_fronts(tmp_path_factory.mktemp("thinking"), thinker) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(thinking: Fronts) -> AsyncIterator[openai.AsyncOpenAI]:
    async with thinking.client() as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def claude(thinking: Fronts) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=thinking.urls[0],
        api_key="none",
        max_retries=0,
        http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False),
    ) as client:
        yield client


def kinds(answer: object) -> list[str]:
    parts = getattr(answer, "output", None) or getattr(answer, "content", None) or []
    return [part.type for part in parts]


def blocks(message: anthropic.types.Message) -> list[dict[str, object]]:
    unsaid = {"citations", "parsed_output"}
    return [block.model_dump(exclude=unsaid, warnings=False) for block in message.content]


# -- chat completions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "thought"),
    [
        ({}, "Hm. What now?"),
        ({"reasoning_effort": "low"}, "Hm. What now?"),
        ({"reasoning_effort": "none"}, None),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}, None),
    ],
)
@pytest.mark.parametrize("model", ["nano", "agent:helper"])
async def test_a_chat_thinks_unless_it_is_told_not_to(client, model, more, thought) -> None:
    whole = await client.chat.completions.create(model=model, messages=HELLO, **more)
    message = whole.choices[0].message
    assert (message.content, getattr(message, "reasoning_content", None)) == ("hello", thought)
    details = whole.usage.completion_tokens_details
    assert bool(details.reasoning_tokens) == (thought is not None)
    chunks = await client.chat.completions.create(model=model, messages=HELLO, stream=True, **more)
    told = [chunk.choices[0].delta async for chunk in chunks]
    assert "".join(one.content or "" for one in told) == "hello"
    heard = [one.reasoning_content for one in told if hasattr(one, "reasoning_content")]
    assert "".join(heard) == (thought or "")


async def test_a_chat_recalls_what_it_thought_before_a_call(client) -> None:
    asked = [{"role": "user", "content": "call mine"}]
    function = {"name": "mine", "parameters": {"type": "object"}}
    ask = {"model": "nano", "tools": [{"type": "function", "function": function}]}
    first = (await client.chat.completions.create(messages=asked, **ask)).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "7"}
    again = [*asked, first.model_dump(exclude_none=True), result]
    second = (await client.chat.completions.create(messages=again, **ask)).choices[0].message
    assert (second.content, second.reasoning_content) == ("got 7", "Again? Hm. What now?")


async def test_a_chat_that_contradicts_itself_is_refused(client) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await client.chat.completions.create(
            model="nano",
            messages=HELLO,
            reasoning_effort="none",
            extra_body={"chat_template_kwargs": {"enable_thinking": True}},
        )
    assert caught.value.param == "chat_template_kwargs.enable_thinking"


# -- responses -------------------------------------------------------------------------------------


async def test_a_response_begins_with_what_was_thought(thinking, client) -> None:
    response = await client.responses.create(
        model="nano", input="say hello", reasoning={"effort": "high", "summary": "auto"}
    )
    assert (kinds(response), response.output_text) == (["reasoning", "message"], "hello")
    item = response.output[0]
    assert [part.text for part in item.content] == ["Hm. What now?"]
    assert (item.summary, item.status) == ([], "completed")
    assert (response.reasoning.effort, response.reasoning.summary) == ("high", "auto")
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    async with thinking.client(1) as other:
        again = await other.responses.retrieve(response.id)
    assert again.model_dump() == response.model_dump()


async def test_a_response_that_shall_not_think(client) -> None:
    response = await client.responses.create(
        model="nano", input="say hello", reasoning={"effort": "none"}
    )
    assert (kinds(response), response.output_text) == (["message"], "hello")
    assert response.usage.output_tokens_details.reasoning_tokens == 0


async def test_the_events_of_a_thought_come_before_those_of_the_answer(client) -> None:
    events = [
        event
        async for event in await client.responses.create(
            model="nano", input="say hello", stream=True
        )
    ]
    order = list(dict.fromkeys(event.type for event in events))
    assert order == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.completed",
    ]
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    told = "".join(e.delta for e in events if e.type == "response.reasoning_text.delta")
    (done,) = (e for e in events if e.type == "response.reasoning_text.done")
    assert told == done.text == "Hm. What now?"
    items = [event.item for event in events if event.type == "response.output_item.done"]
    assert items == events[-1].response.output
    places = [e.output_index for e in events if e.type == "response.output_item.added"]
    assert places == [0, 1]


async def test_the_streaming_helper_puts_a_response_together(client) -> None:
    async with client.responses.stream(model="nano", input="say hello") as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert (kinds(final), final.output_text) == (["reasoning", "message"], "hello")


async def test_what_was_thought_before_a_call_may_be_handed_back(client) -> None:
    asked = [{"role": "user", "content": "call mine"}]
    first = await client.responses.create(model="nano", input=asked, tools=[TOOL])
    assert kinds(first) == ["reasoning", "function_call"]
    result = {"type": "function_call_output", "call_id": first.output[1].call_id, "output": "7"}
    second = await client.responses.create(
        model="nano", input=[*asked, *first.output, result], tools=[TOOL]
    )
    assert (kinds(second), second.output_text) == (["reasoning", "message"], "got 7")


async def test_a_thought_of_a_conversation_can_be_deleted_alone(client) -> None:
    conversation = await client.conversations.create()
    await client.responses.create(model="nano", input="say hello", conversation=conversation.id)
    items = (await client.conversations.items.list(conversation.id, order="asc")).data
    assert [item.type for item in items] == ["message", "reasoning", "message"]
    await client.conversations.items.delete(items[1].id, conversation_id=conversation.id)
    left = (await client.conversations.items.list(conversation.id, order="asc")).data
    assert left == [items[0], items[2]]


# -- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["nano", "agent:helper"])
async def test_a_message_shows_its_thoughts_to_who_asks(claude, model) -> None:
    ask = {"model": model, "max_tokens": 2000, "messages": HELLO}
    asked = await claude.messages.create(thinking=ON, **ask)
    assert kinds(asked) == ["thinking", "text"]
    assert (asked.content[0].thinking, asked.content[1].text) == ("Hm. What now?", "hello")
    assert asked.content[0].signature
    silent = await claude.messages.create(**ask)
    assert kinds(silent) == ["text"]
    assert silent.usage.output_tokens == asked.usage.output_tokens  # it has thought all the same
    off = await claude.messages.create(thinking={"type": "disabled"}, **ask)
    assert off.usage.output_tokens < asked.usage.output_tokens


@pytest.mark.parametrize("model", ["nano", "agent:helper"])
async def test_the_blocks_of_a_stream_are_those_of_the_answer(claude, model) -> None:
    ask = {"model": model, "max_tokens": 2000, "messages": HELLO, "thinking": ON}
    whole = await claude.messages.create(**ask)
    async with claude.messages.stream(**ask) as stream:
        heard = [event.type async for event in stream]
        message = await stream.get_final_message()
    assert blocks(message) == blocks(whole)
    assert {"thinking", "signature", "text"} <= set(heard)
    assert heard.index("thinking") < heard.index("signature") < heard.index("text")


async def test_a_thought_can_be_left_out_but_for_its_place(claude) -> None:
    omitted = {"type": "adaptive", "display": "omitted"}
    ask = {"model": "nano", "max_tokens": 200, "messages": HELLO, "thinking": omitted}
    whole = await claude.messages.create(**ask)
    async with claude.messages.stream(**ask) as stream:
        message = await stream.get_final_message()
    assert kinds(whole) == ["thinking", "text"]
    assert whole.content[0].thinking == ""
    assert blocks(message) == blocks(whole)


@pytest.mark.parametrize("model", ["nano", "agent:helper"])
async def test_a_thought_before_a_tool_may_be_handed_back(claude, model) -> None:
    asked = {"role": "user", "content": "call mine"}
    tool = {"name": "mine", "input_schema": {"type": "object"}}
    ask = {"model": model, "max_tokens": 2000, "tools": [tool], "thinking": ON}
    first = await claude.messages.create(messages=[asked], **ask)
    assert kinds(first) == ["thinking", "tool_use"]
    result = {"type": "tool_result", "tool_use_id": first.content[1].id, "content": "7"}
    again = [asked, {"role": "assistant", "content": first.content}]
    second = await claude.messages.create(
        messages=[*again, {"role": "user", "content": [result]}], **ask
    )
    assert (kinds(second), second.content[1].text) == (["thinking", "text"], "got 7")
    assert second.content[0].thinking == "Again? Hm. What now?"
    if model != "nano":
        return  # who goes on with other words than before is somebody else to a session
    later = [*again, {"role": "user", "content": [result, {"type": "text", "text": "say x"}]}]
    third = await claude.messages.create(messages=later, **ask)
    assert third.content[0].thinking == "Hm. What now?"  # another turn
