"""A question in Anthropic's words."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from services.inference.adapters.provider.anthropic_request import messages_request
from shared.contracts.demands import Demands, ResponseFormat
from shared.errors import Permanent
from tests.unit.inference.provider.questions import CALCULATOR, TALK, question, row


def asked(*tools, row=row(api="anthropic"), **more) -> dict[str, Any]:  # noqa: B008 - frozen
    return messages_request(row, question(*tools, **more))


def test_instructions_results_and_calls_have_places_of_their_own() -> None:
    body = asked(CALCULATOR)
    assert body["system"] == "Be brief."
    use = {"type": "tool_use", "name": "calculator", "input": {"expression": "1 + 1"}}
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]},
        {"role": "assistant", "content": [use | {"id": "call_1"}, use | {"id": "call_2"}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "2"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "2"},
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    assert (body["max_tokens"], body["stream"]) == (512, True)


def test_what_is_said_to_the_model_in_between_is_said_by_the_user() -> None:
    talk = [
        {"role": "developer", "content": "A"},
        {"role": "system", "content": "B"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "system", "content": "in German"},
        {"role": "assistant", "content": "  "},
    ]
    body = asked(messages=talk)
    assert body["system"] == "A\n\nB"
    said = [{"type": "text", "text": "Hi"}, {"type": "text", "text": "in German"}]
    assert body["messages"] == [{"role": "user", "content": said}]


def test_old_calls_want_their_tools_though_there_are_none_now() -> None:
    body = asked()
    assert [tool["name"] for tool in body["tools"]] == ["calculator"]
    assert body["tool_choice"] == {"type": "none"}
    assert "tools" not in asked(messages=TALK[:2])


@pytest.mark.parametrize(
    ("demands", "expected"),
    [
        (Demands(), {"type": "auto"}),
        (Demands(tool_choice="none"), {"type": "none"}),
        (Demands(tool_choice="required"), {"type": "any"}),
        (
            Demands(tool_choice="function", function="calculator", parallel_tool_calls=False),
            {"type": "tool", "name": "calculator", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_tools_and_how_they_are_to_be_called(demands, expected) -> None:
    body = asked(CALCULATOR, demands=demands)
    assert body["tool_choice"] == expected
    assert body["tools"] == [
        {
            "name": "calculator",
            "description": "Sums.",
            "input_schema": {"type": "object", **CALCULATOR.parameters},
        }
    ]
    assert asked(replace(CALCULATOR, strict=True))["tools"][0]["strict"] is True


def test_a_schema_is_asked_for() -> None:
    shaped = ResponseFormat(type="json_schema", schema={"type": "object"}, strict=True)
    assert asked(demands=Demands(response_format=shaped))["output_config"] == {
        "format": {"type": "json_schema", "schema": {"type": "object"}}
    }


def test_sampling_is_left_to_anthropics_own_models() -> None:
    given = {"temperature": 0.5, "top_p": 0.5, "stop": ("x",)}
    body = asked(**given, top_k=4)
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.5, 0.5, 4)
    assert body["stop_sequences"] == ["x"]
    own = asked(row=row(api="anthropic", base_url=None), **given)
    assert not {"temperature", "top_p", "top_k"} & set(own)
    with pytest.raises(Permanent) as refused:
        asked(row=row(api="anthropic", base_url=None), top_k=4)
    assert refused.value.field == "top_k"


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("seed", {"seed": 0}),
        ("frequency_penalty", {"frequency_penalty": 0.1}),
        ("presence_penalty", {"presence_penalty": 0.1}),
        ("logit_bias", {"logit_bias": {"1": 2.0}}),
        ("logprobs", {"demands": Demands(logprobs=0)}),
        ("response_format", {"demands": Demands(response_format=ResponseFormat("json_object"))}),
    ],
)
def test_what_the_api_lacks_is_refused_by_name(field, given) -> None:
    with pytest.raises(Permanent) as refused:
        asked(**given)
    assert (refused.value.code, refused.value.field) == ("unsupported_demand", field)


def test_a_stop_string_that_the_endpoint_lacks_is_refused_by_our_name() -> None:
    lacking = row(api="anthropic", lacks=frozenset(("stop",)))
    with pytest.raises(Permanent) as refused:
        asked(row=lacking, stop=("x",))
    assert refused.value.field == "stop"


@pytest.mark.parametrize("arguments", ["[1]", "no json", "7"])
def test_arguments_that_are_no_object_are_shown_in_one(arguments) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
    body = asked(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert list(body["messages"][0]["content"][0]["input"]) == ["arguments"]


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(Permanent) as refused:
        asked(messages=[{"role": "user", "content": [{"type": "image_url"}]}])
    assert (refused.value.code, refused.value.field) == ("invalid_request", "messages")


HELLO = [{"role": "user", "content": "Hi"}]
RESULT = [
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "tool_calls": TALK[2]["tool_calls"]},
    {"role": "tool", "tool_call_id": "call_1", "content": "2"},
]


@pytest.mark.parametrize(
    ("effort", "most", "expected"),
    [
        ("none", 4000, {"type": "disabled"}),
        ("low", 4000, {"type": "enabled", "budget_tokens": 2048}),
        ("high", 4000, {"type": "enabled", "budget_tokens": 3999}),
        ("max", 100_000, {"type": "enabled", "budget_tokens": 65_536}),
        ("low", 512, None),
        (None, 4000, None),
    ],
)
def test_an_effort_is_a_budget_that_leaves_room_for_an_answer(effort, most, expected) -> None:
    big = row(api="anthropic", context=200_000)
    body = asked(
        row=big, messages=HELLO, demands=Demands(effort=effort), max_tokens=most, top_p=0.5
    )
    assert body.get("thinking") == expected
    thinks = expected is not None and expected["type"] == "enabled"
    assert ("temperature" in body, "top_p" in body) == (not thinks, not thinks)


@pytest.mark.parametrize(
    ("messages", "choice"), [(RESULT, "auto"), (HELLO, "required")], ids=["results", "forced"]
)
def test_nobody_is_asked_to_think_where_it_would_be_refused(messages, choice) -> None:
    body = asked(
        CALCULATOR,
        row=row(api="anthropic", context=200_000),
        messages=messages,
        demands=Demands(effort="high", tool_choice=choice),
        max_tokens=9000,
    )
    assert "thinking" not in body
    assert "temperature" in body
