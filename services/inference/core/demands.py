"""Owns what an answer is held to: what an engine is asked to enforce, and whether it was met.

Must not know engines or tokens. A demand is enforced while the model writes, and looked at again
when it has written: an engine that does not keep its word is found out, never passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jsonschema_rs
import msgspec
import orjson

from services.inference.core.generation import GenerationResult
from services.inference.core.toolcalls import ToolCall
from shared.contracts.agents import ToolSpec
from shared.contracts.demands import Demands
from shared.errors import Failure, Permanent
from shared.schemas import TooMuch, check, check_against

_PATTERNS = jsonschema_rs.RegexOptions(size_limit=1 << 20)
"""Read in linear time; of the largest of these, 0.15 s for 5,000 letters (measured)."""
_SHOWN = 300
"""Letters of what is wrong with an answer: the whole answer may be part of it."""
_ANY_OBJECT = '{"type":"object"}'
_FORCED = frozenset({"required", "function"})


class CallShape(msgspec.Struct, frozen=True):
    """A tool that may be called; `schema` is the JSON schema of its arguments, as text."""

    name: str
    schema: str = _ANY_OBJECT
    strict: bool = False


class Reasoning(msgspec.Struct, frozen=True):
    """Reasoning that may stand before what is constrained, between tags.

    With `opened` the prompt has the opening tag already, and the answer begins inside.
    """

    opening: str
    closing: str
    opened: bool = False


class Constraint(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer may be: a JSON value under a schema, calls of tools, or either of the two.

    With `text` it may be free text with calls in it. What is not `strict` is held to as much of
    its schema as the engine understands; a strict schema that it does not understand is refused.
    """

    value: str | None = None
    strict: bool = False
    calls: tuple[CallShape, ...] = ()
    text: bool = False
    once: bool = False
    """Whether the answer is complete after its first call."""
    markup: str = "hermes"
    """The format in which the model writes calls, by the name in `core.dialect`."""
    reasoning: Reasoning | None = None
    """Nothing is demanded of it."""


@dataclass(frozen=True, slots=True)
class Held:
    """The demands of one request, beside the tools that it brings."""

    demands: Demands
    tools: Sequence[ToolSpec] = ()

    @property
    def shown(self) -> Sequence[ToolSpec]:
        """The tools that the model is told of."""
        return () if self.demands.tool_choice == "none" else self.tools

    @property
    def most_calls(self) -> int | None:
        """How many calls an answer may make, None for any number."""
        one = self.demands.tool_choice == "function" or not self.demands.parallel_tool_calls
        return 1 if one else None

    def constraint(self) -> Constraint | None:
        """What the engine has to enforce; None where the answer is free.

        Raises:
            Permanent: `invalid_request` where a call is demanded of a tool that is not there, or
                a schema is more than any engine should read.
        """
        found = self._constraint()
        if found is not None:
            named = {shape.name for shape in found.calls}
            for tool in (one for one in self.shown if one.name in named):
                _affordable(tool.parameters, "tools")
            if found.value is not None:
                _affordable(self.demands.response_format.schema or {}, "response_format")
        return found

    def _constraint(self) -> Constraint | None:
        calls, once = self._callable(), self.most_calls == 1
        if self.demands.tool_choice in _FORCED:
            return Constraint(calls=calls, once=once)
        value = self._value()
        if value is not None:
            strict = self.demands.response_format.strict
            return Constraint(value=value, strict=strict, calls=calls, once=once)
        if any(shape.strict for shape in calls):
            return Constraint(calls=calls, text=True, once=once)
        return None

    def field_of(self, part: str | None) -> str | None:
        """The request's name for the part of the constraint that an engine did not like."""
        if part == "constraint.calls":
            return "tools"
        if part == "constraint.value":
            return "response_format"
        if part != "constraint":
            return part
        if self.demands.tool_choice in _FORCED:
            return "tool_choice"
        return "tools" if self._value() is None else "response_format"

    def unmet(self, result: GenerationResult) -> Failure | None:
        """The demand that a finished answer does not meet.

        One that was cut (by its length, a stop string, an abort) says so itself.
        """
        if result.finish_reason in ("length", "aborted") or result.stop_string is not None:
            return None
        return self._unmet_choice(result.tool_calls) or self._unmet_format(result)

    def _callable(self) -> tuple[CallShape, ...]:
        named = self.demands.function if self.demands.tool_choice == "function" else None
        found = [tool for tool in self.shown if named in (None, tool.name)]
        if not found and self.demands.tool_choice in _FORCED:
            detail = f"there is no tool {named!r}" if named else "a call needs tools"
            raise Permanent("invalid_request", detail, field="tool_choice")
        return tuple(_shape(tool) for tool in found)

    def _value(self) -> str | None:
        wanted = self.demands.response_format
        if wanted.type == "text":
            return None
        if wanted.type == "json_object" or wanted.schema is None:
            return _ANY_OBJECT
        return orjson.dumps(wanted.schema).decode()

    def _unmet_choice(self, calls: Sequence[ToolCall]) -> Failure | None:
        named = self.demands.function if self.demands.tool_choice == "function" else None
        if self.demands.tool_choice in _FORCED and not calls:
            return _failure("tool_choice", "the model did not call a tool")
        if named is not None and any(call.name != named for call in calls):
            return _failure("tool_choice", f"the model did not call {named!r}")
        strict = {tool.name: tool.parameters for tool in self.shown if tool.strict}
        for call in calls:
            wrong = mismatch(strict.get(call.name, {}), call.arguments)
            if wrong:
                return _failure("tools", f"the arguments of {call.name!r}: {wrong}")
        return None

    def _unmet_format(self, result: GenerationResult) -> Failure | None:
        wanted = self.demands.response_format
        if wanted.type == "text" or result.tool_calls:
            return None
        try:
            value = orjson.loads(result.content)
        except orjson.JSONDecodeError:
            return _failure("response_format", "the model did not answer in JSON")
        if wanted.type == "json_object":
            schema: dict[str, object] = {"type": "object"}
        else:
            schema = wanted.schema or {} if wanted.strict else {}
        wrong = mismatch(schema, value)
        return _failure("response_format", f"the answer: {wrong}") if wrong else None


def _shape(tool: ToolSpec) -> CallShape:
    schema = {"type": "object", **tool.parameters}
    return CallShape(tool.name, orjson.dumps(schema).decode(), tool.strict)


def _affordable(schema: dict[str, object], field: str) -> None:
    try:
        check(schema)
    except TooMuch as error:
        detail = f"the schema cannot be used: {error}"
        raise Permanent("invalid_request", detail, field=field) from error


def mismatch(schema: dict[str, object], value: object) -> str:
    """What a JSON schema has against a value, in a line; empty where it has nothing.

    Nothing is fetched for a schema, its patterns run in linear time, and what would take long
    for this value is not begun.
    """
    if not schema:
        return ""
    try:
        validator = jsonschema_rs.validator_for(schema, offline=True, pattern_options=_PATTERNS)
        check_against(schema, value)
        error = next(iter(validator.iter_errors(value)), None)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as unusable:
        return f"the schema cannot be used: {str(unusable).splitlines()[0][:_SHOWN]}"
    return "" if error is None else error.message[:_SHOWN]


def _failure(field: str, detail: str) -> Failure:
    return Failure(code="demand_unmet", family="transient", detail=detail, field=field)
