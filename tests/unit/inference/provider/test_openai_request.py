"""A question in OpenAI's words."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from services.inference.adapters.provider.openai_request import chat_request
from shared.contracts.demands import Demands, ResponseFormat
from shared.errors import Permanent
from tests.unit.inference.provider.questions import CALCULATOR, TALK, question, row


def asked(*tools, row=row(), **more) -> dict[str, Any]:  # noqa: B008 - frozen
    return chat_request(row, question(*tools, **more))


def test_a_plain_question_asks_for_nothing_more() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert asked(messages=messages) == {
        "model": "gpt",
        "messages": messages,
        "max_tokens": 512,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_conversation_is_passed_on_without_what_is_empty() -> None:
    messages = asked()["messages"]
    assert [one["role"] for one in messages] == [one["role"] for one in TALK]
    assert messages[2] == {"role": "assistant", "tool_calls": TALK[2]["tool_calls"]}
    assert asked(messages=[{"role": "assistant", "content": None}])["messages"] == [
        {"role": "assistant", "content": ""}
    ]


def test_sampling_is_said_where_it_is_not_neutral() -> None:
    given = {
        "top_p": 0.5, "top_k": 7, "seed": 0, "frequency_penalty": 0.5, "presence_penalty": -0.5,
        "logit_bias": {"5": 1.0}, "temperature": 0.3,
    }  # fmt: skip
    body = asked(**given, stop=("x",))
    assert {name: body[name] for name in given} == given
    assert body["stop"] == ["x"]
    assert not set(asked()) & (set(given) - {"temperature"} | {"stop"})


@pytest.mark.parametrize(
    ("demands", "expected"),
    [
        (Demands(), {}),
        (Demands(tool_choice="required"), {"tool_choice": "required"}),
        (
            Demands(tool_choice="function", function="calculator"),
            {"tool_choice": {"type": "function", "function": {"name": "calculator"}}},
        ),
        (Demands(parallel_tool_calls=False), {"parallel_tool_calls": False}),
    ],
)
def test_tools_and_how_they_are_to_be_called(demands, expected) -> None:
    body = asked(CALCULATOR, demands=demands)
    assert {
        name: body[name] for name in body if name in ("tool_choice", "parallel_tool_calls")
    } == (expected)
    function = body["tools"][0]["function"]
    assert function["parameters"] == {"type": "object", **CALCULATOR.parameters}
    assert "strict" not in function
    strict = asked(replace(CALCULATOR, strict=True))
    assert strict["tools"][0]["function"]["strict"] is True


def test_a_model_that_may_call_nothing_is_shown_no_tools() -> None:
    body = asked(CALCULATOR, demands=Demands(tool_choice="none"))
    assert not {"tools", "tool_choice"} & set(body)


def test_a_call_that_is_demanded_of_no_tool_is_refused() -> None:
    with pytest.raises(Permanent) as refused:
        asked(demands=Demands(tool_choice="required"))
    assert (refused.value.code, refused.value.field) == ("invalid_request", "tool_choice")


def test_the_form_of_the_answer() -> None:
    plain = ResponseFormat(type="json_object")
    assert asked(demands=Demands(response_format=plain))["response_format"] == {
        "type": "json_object"
    }
    shaped = ResponseFormat(type="json_schema", schema={"type": "object"}, strict=True)
    assert asked(demands=Demands(response_format=shaped))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
    }


def test_log_probabilities() -> None:
    body = asked(demands=Demands(logprobs=3))
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    assert "top_logprobs" not in asked(demands=Demands(logprobs=0))


def test_the_bound_of_an_answer_has_two_names_and_three_reasons() -> None:
    assert asked(row=row(base_url=None), max_tokens=5)["max_completion_tokens"] == 5
    other = row(limit_field="max_completion_tokens")
    assert asked(row=other, max_tokens=5)["max_completion_tokens"] == 5
    assert asked(max_tokens=5000)["max_tokens"] == 1000
    assert asked(row=row(max_output=64), max_tokens=5000)["max_tokens"] == 64


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("seed", {"seed": 1}),
        ("top_k", {"top_k": 1}),
        ("logprobs", {"demands": Demands(logprobs=0)}),
        ("tool_choice", {"demands": Demands(tool_choice="required")}),
        ("response_format", {"demands": Demands(response_format=ResponseFormat("json_object"))}),
    ],
)
def test_what_the_endpoint_lacks_is_refused_by_name(field, given) -> None:
    lacking = row(lacks=frozenset((field,)))
    assert field not in asked(CALCULATOR, row=lacking)
    with pytest.raises(Permanent) as refused:
        asked(CALCULATOR, row=lacking, **given)
    assert (refused.value.code, refused.value.field) == ("unsupported_demand", field)


def test_a_temperature_that_the_endpoint_lacks_is_left_to_it() -> None:
    body = asked(row=row(lacks=frozenset(("temperature", "top_p"))), temperature=1.5, top_p=0.5)
    assert not {"temperature", "top_p"} & set(body)


def test_the_row_may_add_to_every_request() -> None:
    assert asked(row=row(extra_body={"service_tier": "flex"}))["service_tier"] == "flex"


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -1.0), ("temperature", float("nan")), ("top_p", 1.5), ("max_tokens", 0)],
)
def test_what_means_nothing_is_refused_before_it_costs_anything(field, value) -> None:
    with pytest.raises(Permanent) as refused:
        asked(**{field: value})
    assert (refused.value.code, refused.value.field) == ("invalid_request", field)


def test_nothing_to_answer_is_refused() -> None:
    with pytest.raises(Permanent) as refused:
        asked(messages=[])
    assert (refused.value.code, refused.value.field) == ("invalid_request", "messages")


@pytest.mark.parametrize(
    ("thinking", "effort", "expected"),
    [
        ("effort", None, {}),
        ("effort", "none", {"reasoning_effort": "none"}),
        ("effort", "high", {"reasoning_effort": "high"}),
        ("template", "none", {"chat_template_kwargs": {"k": 1, "enable_thinking": False}}),
        ("template", "low", {"chat_template_kwargs": {"k": 1, "enable_thinking": True}}),
        ("none", "high", {}),
    ],
)
def test_how_much_to_think_is_said_as_the_endpoint_takes_it(thinking, effort, expected) -> None:
    always = {"chat_template_kwargs": {"k": 1}} if thinking == "template" else {}
    body = asked(row=row(thinking=thinking, extra_body=always), demands=Demands(effort=effort))
    given = {"reasoning_effort", "chat_template_kwargs"} & set(body)
    assert {name: body[name] for name in given} == (expected or always)


def test_not_to_think_is_refused_where_nobody_can_be_told() -> None:
    with pytest.raises(Permanent) as caught:
        asked(row=row(thinking="none"), demands=Demands(effort="none"))
    assert (caught.value.code, caught.value.field) == ("unsupported_demand", "reasoning_effort")
