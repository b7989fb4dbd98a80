"""Schemas of the three kinds of completions: measured at the door, and refused by their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from services.ingress.core.chat.body import ChatBody
from services.ingress.core.messages.body import MessagesBody
from services.ingress.core.responses.body import ResponseBody
from shared.errors import Permanent
from tests.fakes.schema_bombs import BOMBS

Schema = dict[str, Any]
USER = [{"role": "user", "content": "hi"}]


def chat(**more: Any) -> object:
    return ChatBody.model_validate({"model": "default", "messages": USER} | more)


def response(**more: Any) -> object:
    return ResponseBody.model_validate({"model": "default", "input": "hi"} | more)


def messages(**more: Any) -> object:
    body = {"model": "default", "max_tokens": 9, "messages": USER} | more
    return MessagesBody.model_validate(body)


def chat_format(schema: Schema) -> object:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return chat(response_format=form)


def chat_tool(schema: Schema) -> object:
    return chat(tools=[{"type": "function", "function": {"name": "x", "parameters": schema}}])


def response_format(schema: Schema) -> object:
    form = {"type": "json_schema", "name": "x", "schema": schema}
    return response(text={"format": form})


def response_tool(schema: Schema) -> object:
    return response(tools=[{"type": "function", "name": "x", "parameters": schema}])


def message_tool(schema: Schema) -> object:
    return messages(tools=[{"name": "x", "input_schema": {"type": "object"} | schema}])


PLACES: list[tuple[Callable[[Schema], object], str]] = [
    (chat_format, "response_format.json_schema.schema"),
    (chat_tool, "tools.0.function.parameters"),
    (response_format, "text.format.schema"),
    (response_tool, "tools.0.parameters"),
    (message_tool, "tools.0.input_schema"),
]
everywhere = pytest.mark.parametrize(("asked", "field"), PLACES, ids=[f for _, f in PLACES])


@everywhere
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_its_place(
    asked: Callable[[Schema], object], field: str, name: str
) -> None:
    with pytest.raises(Permanent) as refused:
        asked(BOMBS[name])
    assert (refused.value.code, refused.value.field) == ("invalid_request", field)
    assert len(refused.value.detail) < 400


@everywhere
def test_what_is_no_schema_is_refused(asked: Callable[[Schema], object], field: str) -> None:
    with pytest.raises(Permanent, match="not a JSON schema") as refused:
        asked({"properties": {"a": {"type": "no such type"}}})
    assert refused.value.field == field


@everywhere
def test_a_pattern_is_refused_by_its_size(asked: Callable[[Schema], object], field: str) -> None:
    asked({"properties": {"a": {"pattern": "^[a-z]{1,200}$"}}})
    with pytest.raises(Permanent, match="with maxLength") as refused:
        asked({"properties": {"a": {"pattern": r"^(\w+\s?){1,5000}$"}}})
    assert refused.value.field == field


def test_many_tools_are_bounded_together() -> None:
    large = {"type": "object", "description": "x" * 100_000}
    tools = [{"type": "function", "name": f"t{n}", "parameters": large} for n in range(11)]
    response(tools=tools[:10])
    with pytest.raises(Permanent, match="up to here") as refused:
        response(tools=tools)
    assert (refused.value.code, refused.value.field) == ("invalid_request", "tools.10.parameters")
