"""Anthropic's own client, as it is, against a whole system with the model of the repository."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import httpx
import pytest
from anthropic import beta_tool

from tests.e2e.running import System

HELLO = [{"role": "user", "content": "Hello"}]
SUM = [{"role": "user", "content": "What is 17 * 23?"}]
CALCULATOR = {
    "name": "calculator",
    "description": "Exact arithmetic.",
    "input_schema": {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
}
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
ANSWER = "17 * 23 = 391."


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=system.http_url,
        api_key="none",
        max_retries=0,
        http_client=anthropic.DefaultHttpxClient(trust_env=False),
    ) as client:
        yield client


def ask(**more):
    return {"model": "default", "max_tokens": 60, "messages": HELLO} | more


def create(client, **more):
    return client.messages.create(**ask(**more))


def stream(client, **more):
    return client.messages.stream(**ask(**more))


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


def test_an_answer(client):
    message = create(client)
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert text(message).startswith("Hello")
    assert message.id.startswith("msg_")
    assert message.usage.output_tokens > 1
    assert message._request_id


def test_a_stream_adds_up_to_the_answer(client):
    whole = create(client)
    with stream(client) as events:
        said = "".join(events.text_stream)
        message = events.get_final_message()
    assert said == text(message) == text(whole)
    assert message.stop_reason == "end_turn"
    tokens = message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
    assert tokens == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
    assert message.usage.output_tokens == whole.usage.output_tokens


def test_the_raw_events_come_in_order(client):
    kinds = [event.type for event in create(client, stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


async def test_the_asynchronous_client(system):
    async with (
        anthropic.AsyncAnthropic(
            base_url=system.http_url,
            api_key="none",
            max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False),
        ) as client,
        stream(client) as events,
    ):
        assert (await events.get_final_text()).startswith("Hello")


def test_a_tool_and_its_result(client):
    asked = create(client, messages=SUM, tools=[CALCULATOR])
    assert asked.stop_reason == "tool_use"
    call = asked.content[-1]
    assert (call.name, call.input) == ("calculator", {"expression": "17 * 23"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "391"}
    history = [
        *SUM,
        {"role": "assistant", "content": asked.content},
        {"role": "user", "content": [result]},
    ]
    answer = create(client, messages=history, tools=[CALCULATOR])
    assert (text(answer), answer.stop_reason) == (ANSWER, "end_turn")
    assert answer.usage.cache_read_input_tokens > 0


def test_a_streamed_call_has_its_input_in_the_end(client):
    with stream(client, messages=SUM, tools=[CALCULATOR]) as events:
        pieces = [event.partial_json for event in events if event.type == "input_json"]
        message = events.get_final_message()
    assert "".join(pieces) == '{"expression": "17 * 23"}'
    assert message.content[0].input == {"expression": "17 * 23"}
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize("streamed", [False, True])
def test_the_clients_own_tool_loop(client, streamed):
    """It asks for a server-held thread first; refused, it goes on with the whole history."""
    asked = []

    @beta_tool
    def calculator(expression: str) -> str:
        """Exact arithmetic."""
        asked.append(expression)
        return "391"

    runner = client.beta.messages.tool_runner(
        model="default", max_tokens=60, messages=SUM, tools=[calculator], stream=streamed
    )
    assert text(runner.until_done()) == ANSWER
    assert asked == ["17 * 23"]


def test_with_none_the_tool_is_not_called(client):
    message = create(client, messages=SUM, tools=[CALCULATOR], tool_choice={"type": "none"})
    assert {block.type for block in message.content} <= {"text"}


def test_a_stop_sequence_is_named_and_cut_off(client):
    whole = text(create(client))
    message = create(client, stop_sequences=["never said", "can"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "can")
    assert text(message) == whole[: whole.index("can")]
    with stream(client, stop_sequences=["can"]) as events:
        assert events.get_final_message().stop_sequence == "can"


def test_the_end_of_the_tokens(client):
    message = create(client, max_tokens=2)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 2)


def test_counted_tokens_are_those_that_an_answer_is_charged(client):
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    given = {"messages": SUM, "system": system, "tools": [CALCULATOR]}
    counted = client.messages.count_tokens(model="default", **given).input_tokens
    usage = create(client, **given).usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens
    fewer = [
        client.messages.count_tokens(model="default", messages=SUM, system=said).input_tokens
        for said in ("Be brief.", "Be brief and kind.")
    ]
    assert fewer[0] < fewer[1] < counted


def test_more_is_counted_than_fits(client):
    long = [{"role": "user", "content": "word " * 9000}]
    assert client.messages.count_tokens(model="default", messages=long).input_tokens > 9000
    with pytest.raises(anthropic.BadRequestError) as caught:
        create(client, messages=long)
    assert caught.value.error_code == "context_too_long"


def test_an_agent_answers_with_its_last_word(client, system):
    message = create(client, model="agent:assistant", messages=SUM)
    assert [block.type for block in message.content] == ["text"]
    assert (text(message), message.stop_reason) == (ANSWER, "end_turn")
    task = httpx.get(f"{system.http_url}/v1/tasks/{message.millrace['task']}", trust_env=False)
    assert [step["kind"] for step in task.json()["steps"]] == ["infer", "tool", "infer"]
    totals = task.json()["totals"]["usage"]
    assert message.usage.output_tokens == totals["output"]


def test_an_agents_stream(client):
    with stream(client, model="agent:assistant", messages=SUM) as events:
        message = events.get_final_message()
    assert [(block.type, block.text) for block in message.content] == [("text", ANSWER)]
    assert message.usage.output_tokens > 0


def test_an_agents_session_goes_on(client, system):
    headers = {"Millrace-Session": "anthropic-1"}
    for _ in range(2):
        answer = client.messages.with_raw_response.create(
            model="agent:plain", max_tokens=20, messages=HELLO, extra_headers=headers
        )
        assert answer.headers["millrace-session"] == "anthropic-1"
    session = httpx.get(f"{system.http_url}/v1/sessions/anthropic-1", trust_env=False).json()
    assert [task["state"] for task in session["tasks"]] == ["completed", "completed"]


@pytest.mark.parametrize(
    ("more", "error", "code", "param"),
    [
        ({"model": "nobody"}, anthropic.NotFoundError, "model_not_found", "model"),
        ({"model": "agent:nobody"}, anthropic.NotFoundError, "unknown_agent", "model"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},  # max_tokens is less
            anthropic.BadRequestError,
            "invalid_request",
            "thinking.budget_tokens",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            anthropic.BadRequestError,
            "unsupported_content",
            "messages.0.content.0.type",
        ),
        (
            {"extra_body": {"temperature": 2}},
            anthropic.BadRequestError,
            "invalid_request",
            "temperature",
        ),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_refused_is_an_error_of_the_clients(client, more, error, code, param, streamed):
    with pytest.raises(error) as caught:
        create(client, stream=streamed, **more)
    body = caught.value.body["error"]
    assert (caught.value.error_code, body["param"]) == (code, param)
    assert caught.value.request_id == body["trace_id"]


def test_models_in_pages(client):
    models = list(client.models.list(limit=2))
    names = [model.id for model in models]
    assert {"default", "nano", "agent:assistant"} <= set(names)
    assert len(names) == len(set(names))
    assert client.models.retrieve("nano").created_at.year >= 2024
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nobody")
