"""The parts of a chat request: messages, tools, what the answer is held to.

What we do not support is refused by name and place, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.ingress.core.tasks.bodies import Body, TextPartBody
from shared.contracts.agents import ToolSpec
from shared.contracts.demands import ResponseFormat
from shared.errors import Permanent

_NAME = r"^[A-Za-z0-9_-]{1,64}$"
_OLD_KEYS = ("function_call", "audio")


class FunctionCallBody(Body):
    """The function of a call that an assistant message made."""

    name: str
    arguments: str


class ToolCallBody(Body):
    """A call in an assistant message."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCallBody


class ChatMessageBody(BaseModel):
    """One message. Null `refusal` and the like, which clients echo back, are let through."""

    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPartBody] | None = None
    name: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None

    def text(self) -> str | None:
        """The content with its parts joined; None where there is none."""
        if self.content is None or isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class FunctionBody(Body):
    """A function that the model may call; `strict` holds its arguments to `parameters`."""

    name: str = Field(pattern=_NAME)
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool | None = None


class ToolBody(Body):
    """A tool of the client: it answers the call itself and sends the result as a message."""

    type: Literal["function"]
    function: FunctionBody

    def spec(self) -> ToolSpec:
        """The tool as a worker gets it."""
        return ToolSpec(
            name=self.function.name,
            description=self.function.description,
            parameters=self.function.parameters,
            strict=bool(self.function.strict),
        )


class NamedFunctionBody(Body):
    """The function of a `ToolChoiceBody`."""

    name: str


class ToolChoiceBody(Body):
    """The one function that has to be called."""

    type: Literal["function"]
    function: NamedFunctionBody


class SchemaBody(Body):
    """A JSON schema with a name; what is not `strict` is held to what the engine understands."""

    name: str = Field(pattern=_NAME)
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormatBody(Body):
    """The form of the answer's text."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaBody | None = None

    def wanted(self) -> ResponseFormat:
        """The form as a worker gets it."""
        if self.json_schema is None:
            return ResponseFormat(type=self.type)
        return ResponseFormat(
            type=self.type,
            name=self.json_schema.name,
            schema=self.json_schema.schema_,
            strict=bool(self.json_schema.strict),
        )


class StreamOptions(Body):
    """`include_usage` asks for a last chunk with the usage."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class TemplateBody(Body):
    """Variables of the model's template, as vLLM takes them; the one that all models share."""

    enable_thinking: bool | None = None


def unsupported(field: str, detail: str = "") -> Permanent:
    """The refusal of something that we do not do."""
    return Permanent(
        "unsupported_parameter", detail or f"Unsupported parameter: {field!r}", field=field
    )


def invalid(field: str, detail: str) -> Permanent:
    """The refusal of something that does not fit."""
    return Permanent("invalid_request", detail, field=field)


def refuse_message(message: object, where: str) -> None:
    """Refuse what old or multimodal clients send, while its place is known.

    Raises:
        Permanent: `unsupported_parameter`.
    """
    if not isinstance(message, Mapping):
        return
    if message.get("role") == "function":
        detail = "the role 'function' is not supported: send a 'tool' message with a tool_call_id"
        raise unsupported(f"{where}.role", detail)
    for key in _OLD_KEYS:
        if message.get(key) is not None:
            raise unsupported(f"{where}.{key}")
    content = message.get("content")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(kind, str) and kind != "text":
            detail = f"a content part of type {kind[:40]!r} is not supported, only text is"
            raise unsupported(f"{where}.content.{index}", detail)
