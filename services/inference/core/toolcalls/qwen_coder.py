"""Owns what Qwen3-Coder writes between the tags of a call: a function and its parameters in XML.

A parameter is text and carries no type: what it means is in the tool's schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from services.inference.core.toolcalls.events import ToolCall
from services.inference.core.toolcalls.json_calls import NotACall, decoded
from services.inference.core.toolcalls.tagged import CLOSE, OPEN, Tags
from shared.contracts.agents import ToolSpec

_END = "</function>"
_FUNCTION = re.compile(rf"\s*<function=([^>\n]+)>(.*?)(?:{_END})?\s*", re.DOTALL)
_PARAMETER = re.compile(
    r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>(?=\s*(?:<parameter=|\Z))", re.DOTALL
)
Types = Mapping[str, Mapping[str, Any]]
"""The properties of each tool's schema."""


def qwen_coder(tools: Sequence[ToolSpec]) -> Tags:
    """The markup, for the tools that the model was told of."""
    types = {tool.name: _properties(tool) for tool in tools}
    return Tags(OPEN, CLOSE, partial(_read, types), _is_data)


def _read(types: Types, body: str, index: int) -> ToolCall:
    found = _FUNCTION.fullmatch(body)
    if found is None:
        raise NotACall("there is no <function=...>")
    name, inner = found[1].strip(), found[2]
    arguments: dict[str, Any] = {}
    at = 0
    while parameter := _PARAMETER.match(inner, at):
        key = parameter[1].strip()
        arguments[key] = _value(parameter[2], types.get(name, {}).get(key))
        at = parameter.end()
    if inner[at:].strip():
        raise NotACall("something stands between the parameters")
    try:
        raw = orjson.dumps(arguments).decode()
    except TypeError as error:
        raise NotACall(str(error)) from error
    return ToolCall(index, name, arguments, raw)


def _is_data(body: str) -> bool:
    """A closing tag inside of a parameter's text is part of it."""
    return "<function=" in body and not body.rstrip().endswith(_END)


def _properties(tool: ToolSpec) -> Mapping[str, Any]:
    found = tool.parameters.get("properties")
    return found if isinstance(found, Mapping) else {}


def _value(text: str, schema: object) -> Any:  # noqa: ANN401 - JSON
    """What the text says under its schema: what is not said to be a text is JSON if it can be."""
    wanted = schema.get("type") if isinstance(schema, Mapping) else None
    if wanted == "string":
        return text
    try:
        return decoded(text.strip())
    except NotACall:
        lowered = text.strip().lower()
        if wanted == "boolean" and lowered in ("true", "false"):  # as Python writes them
            return lowered == "true"
        return text
