"""OpenAI's Python client against `/v1/chat/completions` and the embedded model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel, Field

from tests.e2e.running import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SUM = {"role": "user", "content": "What is 17 * 23?"}
HELLO = {"role": "user", "content": "Hello"}
CALCULATOR: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Exact arithmetic.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
            "additionalProperties": False,
        },
    },
}
DICE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "dice",
        "parameters": {
            "type": "object",
            "properties": {"sides": {"type": "integer", "minimum": 4, "maximum": 20}},
            "required": ["sides"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Weather(BaseModel):
    """Small enough for a model that knows nothing of it."""

    sky: Literal["clear", "grey"]
    celsius: int = Field(ge=-40, le=50)


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[openai.OpenAI]:
    with (
        httpx.Client(trust_env=False) as http,
        openai.OpenAI(
            base_url=f"{system.http_url}/v1", api_key="unused", max_retries=0, http_client=http
        ) as client,
    ):
        yield client


def ask(client: openai.OpenAI, **more: Any) -> Any:
    body = {"model": "nano", "messages": [SUM], "temperature": 0, "max_tokens": 64} | more
    return client.chat.completions.create(**body)


def test_the_model_calls_a_tool_and_reads_its_result(client):
    first = ask(client, tools=[CALCULATOR]).choices[0]
    (call,) = first.message.tool_calls
    assert (first.finish_reason, first.message.content) == ("tool_calls", None)
    assert json.loads(call.function.arguments) == {"expression": "17 * 23"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "391"}
    messages = [SUM, first.message.model_dump(exclude_none=True), result]
    last = ask(client, tools=[CALCULATOR], messages=messages).choices[0]
    assert (last.finish_reason, "391" in last.message.content) == ("stop", True)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "dice"}}])
def test_a_call_can_be_forced_where_the_model_would_talk(client, choice):
    """Its arguments follow the tool's schema, whatever the model makes of them."""
    answer = ask(client, messages=[HELLO], tools=[DICE], tool_choice=choice).choices[0]
    call = answer.message.tool_calls[0]
    assert (answer.finish_reason, call.function.name) == ("tool_calls", "dice")
    assert 4 <= json.loads(call.function.arguments)["sides"] <= 20


def test_without_choice_the_model_only_talks(client):
    answer = ask(client, tools=[CALCULATOR], tool_choice="none").choices[0]
    assert (answer.message.tool_calls, answer.finish_reason) == (None, "stop")
    assert answer.message.content


def test_one_call_at_a_time(client):
    """A schema that forces calls lets a model make many; the demand stops it after the first."""
    more = {"tools": [DICE], "tool_choice": "required", "temperature": 2, "seed": 3}
    one = ask(client, **more, parallel_tool_calls=False).choices[0]
    assert (len(one.message.tool_calls), one.finish_reason) == (1, "tool_calls")


def test_a_call_is_streamed_in_fragments_of_one_id(client):
    whole = ask(client, tools=[CALCULATOR]).choices[0].message.tool_calls[0]
    chunks = list(ask(client, tools=[CALCULATOR], stream=True))
    found = [c.choices[0].delta.tool_calls[0] for c in chunks if c.choices[0].delta.tool_calls]
    assert (found[0].index, found[0].type, found[0].function.name) == (0, "function", "calculator")
    assert found[0].id.startswith("call_")
    assert not any(one.id or one.function.name for one in found[1:])
    assert "".join(one.function.arguments for one in found) == whole.function.arguments
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_pydantic_model_is_filled(client):
    parsed = client.chat.completions.parse(
        model="nano", messages=[HELLO], response_format=Weather, max_tokens=64, temperature=0
    )
    assert isinstance(parsed.choices[0].message.parsed, Weather)
    assert parsed.choices[0].finish_reason == "stop"


def test_a_pydantic_model_is_filled_in_a_stream(client):
    with client.chat.completions.stream(
        model="nano", messages=[HELLO], response_format=Weather, max_tokens=64
    ) as stream:
        list(stream)
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Weather)


def test_an_object_is_an_object_or_cut(client):
    schema = {
        "type": "object",
        "properties": {"n": {"enum": [1, 2]}},
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    answer = ask(client, response_format=form).choices[0]
    assert set(json.loads(answer.message.content)) <= {"n"}
    cut = ask(client, response_format={"type": "json_object"}, max_tokens=3).choices[0]
    assert (cut.message.content[0], cut.finish_reason) == ("{", "length")


@pytest.mark.parametrize(
    ("schema", "status"), [({"type": 7}, 422), ({"type": "object", "not": {"const": 1}}, 422)]
)
def test_a_schema_that_cannot_be_used_is_refused_by_name(client, schema, status):
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client, response_format=form)
    assert refused.value.status_code == status
    assert refused.value.param.startswith("response_format")


def test_log_probabilities_spell_the_answer(client):
    answer = ask(client, logprobs=True, top_logprobs=2).choices[0]
    tokens = answer.logprobs.content
    assert bytes(b for one in tokens for b in one.bytes or ()).decode() == answer.message.content
    assert all(one.logprob <= 0 and len(one.top_logprobs) == 2 for one in tokens)
    assert all(one.logprob == one.top_logprobs[0].logprob for one in tokens)  # it was greedy
    assert sum(math.exp(one.logprob) for one in tokens[0].top_logprobs) <= 1.001
    chunks = list(ask(client, logprobs=True, top_logprobs=2, stream=True))
    streamed = [one for c in chunks if (part := c.choices[0].logprobs) for one in part.content]
    assert [one.token for one in streamed] == [one.token for one in tokens]


def test_a_stop_string_ends_the_text_and_is_not_in_it(client):
    whole = ask(client, messages=[HELLO]).choices[0].message.content
    stop = whole[4:7]
    cut = ask(client, messages=[HELLO], stop=["never there", stop]).choices[0]
    assert (cut.message.content, cut.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_a_seed_gives_the_same_answer_under_the_same_fingerprint(client):
    wild = {"temperature": 2, "max_tokens": 24}
    answers = [ask(client, **wild, seed=seed) for seed in (7, 7, 8)]
    said = [answer.choices[0].message.content for answer in answers]
    assert said[0] == said[1] != said[2]
    assert answers[0].system_fingerprint.startswith("fp_")
    assert len({answer.system_fingerprint for answer in answers}) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_choices_are_independent_and_paid_for(client, stream):
    more: dict[str, Any] = {"n": 3, "temperature": 2, "seed": 7, "max_tokens": 24}
    singles = [ask(client, **more | {"n": 1, "seed": seed}) for seed in (7, 8, 9)]
    alone = [single.choices[0].message.content for single in singles]
    if stream:
        chunks = list(ask(client, **more, stream=True, stream_options={"include_usage": True}))
        said = ["", "", ""]
        for chunk in chunks[:-1]:
            assert chunk.usage is None
            said[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
        assert (chunks[-1].choices, chunks[-1].system_fingerprint) == (
            [],
            chunks[0].system_fingerprint,
        )
        usage = chunks[-1].usage
    else:
        answer = ask(client, **more)
        said = [choice.message.content for choice in answer.choices]
        usage = answer.usage
    assert said == alone
    assert usage.completion_tokens > 24
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_penalties_and_biases_change_what_is_said(client):
    plain = ask(client, messages=[HELLO]).choices[0].message.content
    odd = ask(client, messages=[HELLO], logit_bias={"300": 100}, max_tokens=8).choices[0]
    assert (odd.finish_reason, odd.message.content != plain) == ("length", True)
    same = {"logit_bias": {"300": 100}, "frequency_penalty": 2.0, "presence_penalty": 2.0}
    weary = ask(client, messages=[HELLO], **same, max_tokens=64).choices[0]
    assert weary.message.content != odd.message.content * 8


def test_what_is_not_supported_is_named(client):
    for name, value in (("store", True), ("functions", [{"name": "x"}]), ("prediction", {})):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(client, extra_body={name: value})
        assert refused.value.param == name


def test_a_repeated_prompt_is_partly_cached(client):
    long = [{"role": "user", "content": "Hello " * 80}]
    ask(client, messages=long, max_tokens=1)
    details = ask(client, messages=long, max_tokens=1).usage.prompt_tokens_details
    assert details.cached_tokens > 0
