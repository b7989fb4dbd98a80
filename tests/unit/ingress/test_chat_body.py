"""What a chat request may ask for."""

import pytest
from pydantic import ValidationError

from services.ingress.core.chat_body import ChatBody, direct_request, sampling_of, task_input
from shared.contracts.agents import Sampling
from shared.errors import Permanent

USER = {"role": "user", "content": "hi"}


def body(**more):
    return ChatBody.model_validate({"model": "default", "messages": [USER]} | more)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprobs", True),
        ("response_format", {"type": "json_object"}),
        ("presence_penalty", 0.5),
        ("n", 2),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "x"}}),
        ("no_such_thing", 1),
    ],
)
def test_what_is_not_supported_is_refused_by_name(name, value):
    with pytest.raises(Permanent) as caught:
        body(**{name: value})
    assert (caught.value.code, caught.value.field) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    ("name", "value"),
    [("logprobs", False), ("n", 1), ("presence_penalty", 0), ("store", None), ("whatever", None)],
)
def test_values_that_ask_for_nothing_are_accepted(name, value):
    assert body(**{name: value}).model == "default"


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
        ({"model": "agent:a", "tool_choice": "none"}, "tool_choice"),
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
    request = direct_request(body(messages=messages, tools=[tool]), "default", "id")
    assert [m.role for m in request.messages] == ["system", "user", "assistant", "tool"]
    assert request.messages[2].tool_calls[0]["function"] == {"name": "add", "arguments": "{}"}
    assert [t.name for t in request.tools] == ["add"]


def test_tool_choice_none_hides_the_tools():
    tool = {"type": "function", "function": {"name": "add"}}
    assert direct_request(body(tools=[tool], tool_choice="none"), "default", "id").tools == ()


def test_an_existing_session_gets_the_last_user_message():
    messages = [{"role": "system", "content": "s"}, USER, {"role": "assistant", "content": "yes"}]
    asked = body(model="agent:a", messages=[*messages, {"role": "user", "content": "more"}])
    assert task_input(asked, existing=True) == "more"
    assert [m.role for m in task_input(asked, existing=False)] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


def test_an_existing_session_needs_a_user_message_at_the_end():
    asked = body(model="agent:a", messages=[USER, {"role": "assistant", "content": "yes"}])
    with pytest.raises(Permanent, match="last message"):
        task_input(asked, existing=True)


def test_tool_messages_cannot_enter_a_session():
    tool = {"role": "tool", "content": "3", "tool_call_id": "c"}
    with pytest.raises(Permanent, match="another conversation"):
        task_input(body(model="agent:a", messages=[USER, tool]), existing=False)
