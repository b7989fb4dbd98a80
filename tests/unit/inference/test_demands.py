"""What an engine is asked to enforce, and what is found out when it did not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.inference.core.demands import Held, mismatch
from services.inference.core.generation import Generation, GenerationResult
from shared.contracts.agents import ToolSpec
from shared.contracts.demands import Demands, ResponseFormat
from shared.errors import Permanent
from tests.fakes.schema_bombs import BOMBS, BRANCHES, deep_value

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
ADD, SUB = ToolSpec(name="add", parameters=NUMBER), ToolSpec(name="sub", parameters=NUMBER)
STRICT = ToolSpec(name="add", parameters=NUMBER, strict=True)
JSON = ResponseFormat(type="json_object")
SCHEMA = ResponseFormat(type="json_schema", schema=NUMBER, strict=True)


def held(*tools: ToolSpec, **demands: Any) -> Held:
    return Held(Demands(**demands), tools)


def said(text: str, reason: Any = "stop", stops: tuple[str, ...] = ()) -> GenerationResult:
    generation = Generation(lambda token: bytes([token]), stops)
    generation.feed(text.encode())
    return generation.finish(reason)[1]


def call(name: str = "add", arguments: str = '{"n": 1}') -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def test_a_free_answer_costs_no_grammar() -> None:
    assert held().constraint() is None
    assert held(ADD, SUB).constraint() is None


def test_without_choice_the_model_hears_of_no_tool() -> None:
    none = held(ADD, STRICT, tool_choice="none")
    assert (none.shown, none.constraint()) == ((), None)


def test_required_allows_every_tool_and_function_one() -> None:
    every = held(ADD, SUB, tool_choice="required").constraint()
    one = held(ADD, SUB, tool_choice="function", function="sub").constraint()
    assert every is not None
    assert one is not None
    assert [shape.name for shape in every.calls] == ["add", "sub"]
    assert [shape.name for shape in one.calls] == ["sub"]
    assert (every.once, one.once) == (False, True)
    assert orjson.loads(one.calls[0].schema) == NUMBER


@pytest.mark.parametrize(
    "asked", [held(tool_choice="required"), held(ADD, tool_choice="function", function="x")]
)
def test_a_call_of_nothing_is_refused(asked: Held) -> None:
    with pytest.raises(Permanent) as refused:
        asked.constraint()
    assert refused.value.field == "tool_choice"


def test_a_strict_tool_constrains_calls_and_not_text() -> None:
    constraint = held(STRICT, SUB).constraint()
    assert constraint is not None
    assert (constraint.text, [shape.strict for shape in constraint.calls]) == (True, [True, False])


def test_a_format_leaves_room_for_calls_unless_one_is_forced() -> None:
    either = held(ADD, response_format=SCHEMA).constraint()
    forced = held(ADD, response_format=SCHEMA, tool_choice="required").constraint()
    assert either is not None
    assert forced is not None
    assert (orjson.loads(either.value or ""), len(either.calls)) == (NUMBER, 1)
    assert forced.value is None


@pytest.mark.parametrize(
    ("asked", "part", "field"),
    [
        (held(response_format=JSON), "constraint", "response_format"),
        (held(response_format=JSON), "constraint.value", "response_format"),
        (held(ADD, tool_choice="required"), "constraint", "tool_choice"),
        (held(ADD, tool_choice="required"), "constraint.calls", "tools"),
        (held(STRICT), "constraint", "tools"),
        (held(), "logit_bias", "logit_bias"),
        (held(), None, None),
    ],
)
def test_a_refusal_has_the_name_that_the_client_knows(
    asked: Held, part: str | None, field: str | None
) -> None:
    assert asked.field_of(part) == field


@pytest.mark.parametrize(
    ("asked", "text", "field"),
    [
        (held(ADD, tool_choice="required"), "no", "tool_choice"),
        (held(ADD, tool_choice="required"), "<tool_call>no</tool_call>", "tool_choice"),
        (held(ADD, SUB, tool_choice="function", function="sub"), call("add"), "tool_choice"),
        (held(STRICT), call(arguments='{"n": "x"}'), "tools"),
        (held(response_format=JSON), "no", "response_format"),
        (held(response_format=JSON), "[1]", "response_format"),
        (held(response_format=SCHEMA), '{"n": "x"}', "response_format"),
    ],
)
def test_a_demand_that_was_not_met_is_found_out(asked: Held, text: str, field: str) -> None:
    unmet = asked.unmet(said(text))
    assert unmet is not None
    assert (unmet.code, unmet.family, unmet.field) == ("demand_unmet", "transient", field)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (held(), "anything"),
        (held(ADD, tool_choice="required"), call()),
        (held(ADD), call(arguments='{"n": "x"}')),
        (held(STRICT), "no call at all"),
        (held(response_format=JSON), "{}"),
        (held(response_format=ResponseFormat(type="json_schema", schema=NUMBER)), '{"n": "x"}'),
        (held(ADD, response_format=SCHEMA), call()),
    ],
)
def test_what_was_met_is_let_through(asked: Held, text: str) -> None:
    assert asked.unmet(said(text)) is None


def test_an_answer_that_was_cut_says_so_itself() -> None:
    assert held(response_format=JSON).unmet(said('{"n"', "length")) is None
    assert held(response_format=JSON).unmet(said('{"n": 1', stops=("1",))) is None


def test_a_schema_reaches_nothing_outside_itself() -> None:
    assert "Retrieval is disabled" in mismatch({"$ref": "file:///etc/hostname"}, {})
    assert "meta-schema" in mismatch({"$schema": "http://127.0.0.1:9/x"}, {})


def test_only_the_first_call_counts_where_one_is_allowed() -> None:
    generation = Generation(lambda token: bytes([token]), most_calls=1)
    events = generation.feed((call("add") + call("sub") + "more").encode())
    assert generation.stopped
    assert len(events) == 1
    rest, result = generation.finish("aborted")  # what the stop makes of the engine
    assert rest == []
    assert [one.name for one in result.tool_calls] == ["add"]
    assert (result.finish_reason, result.content) == ("tool_calls", "")


@pytest.mark.parametrize("name", BOMBS)
def test_no_engine_is_asked_to_read_a_bomb(name: str) -> None:
    bomb = BOMBS[name]
    form = held(response_format=ResponseFormat(type="json_schema", schema=bomb))
    tool = held(ToolSpec(name="add", parameters=bomb), tool_choice="required")
    for asked, field in ((form, "response_format"), (tool, "tools")):
        with pytest.raises(Permanent) as refused:
            asked.constraint()
        assert (refused.value.code, refused.value.field) == ("invalid_request", field)


def test_a_tool_that_is_not_enforced_is_not_measured() -> None:
    assert held(ToolSpec(name="add", parameters=BOMBS["itself"])).constraint() is None


def test_an_answer_that_takes_long_to_look_at_is_not_looked_at() -> None:
    assert "held against more than" in mismatch(BRANCHES, deep_value(25))
    assert "not valid under any" in mismatch(BRANCHES, deep_value(5))
    slow = {"pattern": r"^(\w+\s?){1,5000}$"}
    assert "cannot be used" in mismatch(slow, "a" * 5000 + "!")


def test_what_is_wrong_with_an_answer_is_said_in_short() -> None:
    assert len(mismatch({"type": "integer"}, "x" * 100_000)) <= 300
