"""What a chat request may ask for."""

import pytest
from pydantic import ValidationError

from services.ingress.core.chat.body import (
    ChatBody,
    demands_of,
    direct_requests,
    sampling_of,
)
from shared.contracts.agents import Sampling
from shared.errors import Permanent

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "sub"}}
FORM = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}


def form(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}


def body(**more):
    return ChatBody.model_validate({"model": "default", "messages": [USER]} | more)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("store", True),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "x", "format": "wav"}),
        ("prediction", {"type": "content", "content": "x"}),
        ("web_search_options", {}),
        ("functions", [{"name": "x"}]),
        ("function_call", "auto"),
        ("no_such_thing", 1),
    ],
)
def test_what_is_not_supported_is_refused_by_name(name, value):
    with pytest.raises(Permanent) as caught:
        body(**{name: value})
    assert (caught.value.code, caught.value.field) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "function", "name": "x", "content": "1"}, "messages.1.role"),
        ({"role": "assistant", "function_call": {"name": "x"}}, "messages.1.function_call"),
        ({"role": "assistant", "audio": {"id": "x"}}, "messages.1.audio"),
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "data:"}},
                ],
            },
            "messages.1.content.1",
        ),
    ],
)
def test_what_a_message_cannot_hold_is_refused_with_its_place(message, field):
    with pytest.raises(Permanent) as caught:
        body(messages=[USER, message])
    assert (caught.value.code, caught.value.field) == ("unsupported_parameter", field)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprobs", True),
        ("n", 2),
    ],
)
def test_an_agents_task_refuses_what_it_cannot_do(name, value):
    with pytest.raises(Permanent) as caught:
        body(model="agent:a", **{name: value})
    assert (caught.value.code, caught.value.field) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprobs", False),
        ("top_logprobs", 0),
        ("n", 1),
        ("presence_penalty", 0),
        ("store", None),
        ("whatever", None),
    ],
)
def test_values_that_ask_for_nothing_are_accepted(name, value):
    assert body(**{name: value}).model == "default"
    assert body(model="agent:a", **{name: value}).agent == "a"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [USER, {"role": "user"}]}, "messages.1.content"),
        ({"metadata": {"session": "s"}}, "metadata.session"),
        ({"model": "agent:a", "metadata": {"session": "a.b"}}, "metadata.session"),
        ({"model": "agent:a b"}, "model"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": NAMED, "tools": [TOOL]}, "tool_choice"),
        ({"tools": [TOOL, TOOL]}, "tools.1.function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": 7}}}]},
            "tools.0.function.parameters",
        ),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": FORM | {"type": "text"}}, "response_format.json_schema"),
        ({"response_format": form({"type": 7})}, "response_format.json_schema.schema"),
        ({"response_format": form({"$ref": "#/nowhere"})}, "response_format.json_schema.schema"),
        (
            {"response_format": form({"$ref": "http://127.0.0.1:9/x"})},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": form({"$schema": "file:///etc/hostname"})},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_what_does_not_fit_together_names_the_field(more, field):
    with pytest.raises(Permanent) as caught:
        body(**more)
    assert caught.value.field == field


@pytest.mark.parametrize("value", [-0.1, 2.1, "hot"])
def test_temperature_is_a_number_in_range(value):
    with pytest.raises(ValidationError):
        body(temperature=value)


def test_sampling_keeps_what_the_request_leaves_open():
    base = Sampling(temperature=0.3, max_tokens=99, stop=("x",))
    assert sampling_of(body(), base) == base
    new = sampling_of(body(stop="y", max_completion_tokens=5, temperature=0), base)
    assert (new.stop, new.max_tokens, new.temperature) == (("y",), 5, 0)


def test_a_direct_request_carries_messages_and_tools():
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "a"}]},
        USER,
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "function": {"name": "add", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "3", "tool_call_id": "c"},
    ]
    (request,) = direct_requests(body(messages=messages, tools=[tool]), "default", "id")
    assert [m.role for m in request.messages] == ["system", "user", "assistant", "tool"]
    assert request.messages[2].tool_calls[0]["function"] == {"name": "add", "arguments": "{}"}
    assert [t.name for t in request.tools] == ["add"]


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        ("none", ("none", "")),
        ("required", ("required", "")),
        ({"type": "function", "function": {"name": "add"}}, ("function", "add")),
    ],
)
def test_the_choice_of_a_tool_is_a_demand(choice, found):
    demands = demands_of(body(tools=[TOOL], tool_choice=choice, parallel_tool_calls=False))
    assert (demands.tool_choice, demands.function) == found
    assert not demands.parallel_tool_calls


def test_a_response_format_is_a_demand():
    wanted = demands_of(body(response_format=form({"type": "object"}, strict=True))).response_format
    assert (wanted.type, wanted.name, wanted.strict) == ("json_schema", "x", True)
    assert wanted.schema == {"type": "object"}
    assert demands_of(body(response_format={"type": "json_object"})).response_format.schema is None


def test_log_probabilities_may_come_without_alternatives():
    assert demands_of(body()).logprobs is None
    assert demands_of(body(logprobs=True)).logprobs == 0
    assert demands_of(body(logprobs=True, top_logprobs=20)).logprobs == 20


def test_each_choice_is_a_completion_with_its_own_seed():
    asked = body(n=3, seed=7, user="ada", metadata={"team": "a"})
    requests = direct_requests(asked, "default", "id")
    assert [one.id for one in requests] == ["id-0", "id-1", "id-2"]
    assert [one.sampling.seed for one in requests] == [7, 8, 9]
    assert requests[0].metadata == {"team": "a", "user": "ada"}
    (alone,) = direct_requests(body(seed=7), "default", "id")
    assert (alone.id, alone.sampling.seed) == ("id", 7)


def test_penalties_and_biases_are_sampling():
    found = sampling_of(body(frequency_penalty=0.5, logit_bias={"17": -100}), Sampling())
    assert (found.frequency_penalty, found.presence_penalty) == (0.5, 0)
    assert found.logit_bias == {"17": -100}


@pytest.mark.parametrize(("stream", "whole"), [(True, False), (False, True), (None, True)])
def test_an_answer_without_stream_is_wanted_whole(stream: bool | None, whole: bool) -> None:
    (request,) = direct_requests(body(stream=stream), "default", "id")
    assert request.whole is whole
