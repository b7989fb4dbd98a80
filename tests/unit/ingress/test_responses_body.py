"""The body of a response: what is taken, what is refused by name, and what it asks of a task."""

from __future__ import annotations

import orjson
import pytest
from pydantic import ValidationError

from services.ingress.core.http.validation import failure_of_validation
from services.ingress.core.responses.body import ResponseBody, terms_of_body
from services.ingress.core.responses.fold import ECHO, Place, place_of
from services.ingress.core.responses.input import (
    check_balance,
    messages_of,
    parts_of,
    references,
)
from services.ingress.core.responses.place import task_of
from shared.contracts.agents import BARE, Sampling
from shared.contracts.base import call_id
from shared.contracts.demands import ResponseFormat
from shared.contracts.tasks import InputMessage
from shared.errors import Permanent, error_of

TOOL = {"type": "function", "name": "mine", "parameters": {"type": "object"}, "strict": True}
USER = {"role": "user", "content": "hi"}
CALL = {"type": "function_call", "call_id": "c1", "name": "mine", "arguments": "{}"}
OTHER = CALL | {"call_id": "c2"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "42"}


def body(**given: object) -> ResponseBody:
    try:
        return ResponseBody.model_validate({"model": "default", "input": "hi"} | given)
    except ValidationError as error:
        raise error_of(failure_of_validation(error.errors())) from error


def refused(given: dict[str, object]) -> tuple[str, str | None]:
    with pytest.raises(Permanent) as caught:
        body(**given)
    return caught.value.code, caught.value.field


def test_what_a_body_asks_of_a_task() -> None:
    form = {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}
    asked = body(
        tools=[TOOL],
        tool_choice={"type": "function", "name": "mine"},
        parallel_tool_calls=False,
        instructions="Be short.",
        text={"format": form},
        temperature=1,
        max_output_tokens=9,
        metadata={"ticket": "7"},
        previous_response_id="resp_t_0",
    )
    terms = terms_of_body(asked, Sampling(top_p=0.5))
    assert asked.agent == BARE.name
    assert (terms.route, terms.instructions) == ("default", "Be short.")
    assert [(tool.name, tool.strict) for tool in terms.tools] == [("mine", True)]
    assert (terms.demands.tool_choice, terms.demands.function) == ("function", "mine")
    assert not terms.demands.parallel_tool_calls
    wanted = ResponseFormat(type="json_schema", name="a", schema={"type": "object"}, strict=True)
    assert terms.demands.response_format == wanted
    assert terms.sampling == Sampling(temperature=1, top_p=0.5, max_tokens=9)
    assert terms.metadata["ticket"] == "7"
    assert orjson.loads(terms.metadata[ECHO]) == {
        "model": "default",
        "max_output_tokens": 9,
        "previous_response_id": "resp_t_0",
    }


def test_an_agent_keeps_its_route() -> None:
    asked = body(model="agent:helper")
    assert (asked.agent, terms_of_body(asked, Sampling()).route) == ("helper", "")


@pytest.mark.parametrize("wanted", ["auto", "disabled"])
def test_what_is_too_long_may_be_forgotten(wanted: str) -> None:
    assert terms_of_body(body(truncation=wanted), Sampling()).demands.truncation == wanted


@pytest.mark.parametrize(
    "neutral",
    [
        {"reasoning": {"effort": None, "summary": None}},
        {"include": ["reasoning.encrypted_content"]},
        {"truncation": "disabled"},
        {"max_tool_calls": 3},
        {"service_tier": "auto"},
        {"service_tier": "flex"},
        {"top_logprobs": 0},
        {"text": {"verbosity": "medium"}},
        {"prompt": None},
        {"safety_identifier": "u1", "prompt_cache_key": "k", "user": "u"},
    ],
)
def test_values_that_ask_for_nothing_are_taken(neutral: dict[str, object]) -> None:
    assert body(**neutral).model == "default"


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({"tools": [{"type": "file_search"}]}, "unsupported_parameter", "tools.0.type"),
        ({"tool_choice": {"type": "allowed_tools"}}, "unsupported_parameter", "tool_choice.type"),
        ({"reasoning": {"effort": "some"}}, "invalid_request", "reasoning.effort"),
        ({"truncation": "middle"}, "invalid_request", "truncation"),
        (
            {"model": "agent:helper", "max_tool_calls": 3},
            "unsupported_parameter",
            "max_tool_calls",
        ),
        ({"prompt": {"id": "p"}}, "unsupported_parameter", "prompt"),
        ({"nonsense": 1}, "unsupported_parameter", "nonsense"),
        ({"tools": [TOOL, TOOL]}, "invalid_request", "tools"),
        ({"stream_options": {}}, "invalid_request", "stream_options"),
        ({"background": True, "store": False}, "invalid_request", "background"),
        ({"conversation": "c", "store": False}, "invalid_request", "store"),
        (
            {"conversation": "c", "previous_response_id": "r"},
            "invalid_request",
            "previous_response_id",
        ),
        ({"metadata": {ECHO: "x"}}, "invalid_request", "metadata"),
        ({"text": {"format": {"type": "json_schema"}}}, "invalid_request", "text.format.schema"),
        ({"temperature": 3}, "invalid_request", "temperature"),
        ({"metadata": {"a": 7}}, "invalid_request", "metadata.a"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: dict[str, object], code: str, field: str) -> None:
    assert refused(given) == (code, field)


# -- items -----------------------------------------------------------------------------------------


def test_items_become_messages_and_calls_belong_to_the_answer_before_them() -> None:
    said = {"role": "assistant", "content": [{"type": "output_text", "text": "Look:"}]}
    messages = messages_of([USER, said, CALL, OTHER, RESULT, RESULT | {"call_id": "c2"}])
    assert [one.role for one in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1].content == "Look:"
    assert [call.id for call in messages[1].tool_calls] == ["c1", "c2"]
    check_balance(messages)


def test_a_call_of_a_server_is_a_pair() -> None:
    item = {"type": "mcp_call", "id": "m1", "name": "add", "arguments": "{}", "output": "3"}
    messages = messages_of([USER, item])
    assert [one.role for one in messages] == ["user", "assistant", "tool"]
    assert messages[2] == InputMessage(role="tool", content="3", tool_call_id="m1")


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"type": "web_search_call", "id": "r"}, "input.0.type"),
        ({"role": "robot", "content": "x"}, "input.0.role"),
        ({"role": "user", "content": 7}, "input.0.content"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input.0.content.0.type"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input.0.content.0.text"),
        ({"type": "function_call", "name": "x", "arguments": "{}"}, "input.0.call_id"),
        ({"type": "function_call_output", "call_id": "c"}, "input.0.output"),
    ],
)
def test_an_item_that_cannot_be_is_named(item: dict[str, object], field: str) -> None:
    with pytest.raises(Permanent) as caught:
        messages_of([item])
    assert caught.value.field == field


def test_results_at_the_end_stand_apart() -> None:
    given = parts_of(messages_of([USER, CALL, RESULT, USER]))
    assert [len(part) for part in (given.before, given.results, given.after)] == [2, 1, 1]
    assert len(given.messages) == 4
    assert parts_of(messages_of([USER])).results == ()


@pytest.mark.parametrize(
    ("items", "known", "code"),
    [
        ([USER, CALL], [], "missing_tool_output"),
        ([CALL, {"role": "assistant", "content": "x"}, RESULT], [], "missing_tool_output"),
        ([RESULT], [], "unknown_call"),
        ([USER], ["c1"], "missing_tool_output"),
    ],
)
def test_each_call_has_one_result(
    items: list[dict[str, object]], known: list[str], code: str
) -> None:
    with pytest.raises(Permanent, match=code):
        check_balance(messages_of(items), known)
    check_balance(messages_of([RESULT]), ["c1"])


def test_ids_name_their_task() -> None:
    place = Place("resp_odd_7", 3)
    assert place_of(place.id) == place
    for wrong in ("", "resp_", "resp_t", "msg_t_0", "resp_a.b_0", "resp_t_x", "resp_t_²"):
        with pytest.raises(Permanent, match="response_not_found"):
            place_of(wrong)
    assert task_of({call_id("t_1", 2, 0): "", call_id("t_1", 2, 1): ""}) == "t_1"
    assert task_of({call_id("t1", 0, 0): "", call_id("t2", 0, 0): ""}) is None
    assert task_of({"call_abc": ""}) is None
    assert references([{"type": "item_reference", "id": "x"}, USER]) == ["x"]


@pytest.mark.parametrize(("tier", "priority"), [("flex", "batch"), ("auto", None), (None, None)])
def test_a_tier_says_whether_somebody_waits(tier: str | None, priority: str | None) -> None:
    body = ResponseBody.model_validate({"model": "fast", "input": "hi", "service_tier": tier})
    assert terms_of_body(body, Sampling()).priority == priority
