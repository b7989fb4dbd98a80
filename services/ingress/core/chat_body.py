"""The body of `POST /v1/chat/completions`: what is supported, and how it becomes a request.

A parameter that we do not support is refused by name, never ignored; its neutral value (the one
that asks for nothing) is accepted, because many clients send it always.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.ingress.core.bodies import Body, TextPartBody
from shared.contracts.agents import Sampling, ToolSpec
from shared.contracts.base import check_token
from shared.contracts.tasks import InputMessage
from shared.contracts.work import ChatMessage, DirectRequest
from shared.errors import Permanent

AGENT_PREFIX = "agent:"
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "store": (False,),
    "parallel_tool_calls": (True,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
}
_ROLES = {"developer": "system"}


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

    def text(self) -> str | None:
        """The content with its parts joined; None where there is none."""
        if self.content is None or isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class FunctionBody(Body):
    """A function that the model may call."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: Literal[False] | None = None


class ToolBody(Body):
    """A tool of the client: it answers the call itself and sends the result as a message."""

    type: Literal["function"]
    function: FunctionBody


class StreamOptions(Body):
    """`include_usage` asks for a last chunk with the usage."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class ChatBody(BaseModel):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="a route, a model, or agent:<name> for the durable loop",
        examples=["agent:assistant"],
    )
    messages: list[ChatMessageBody] = Field(
        min_length=1, examples=[[{"role": "user", "content": "What is 17 * 23?"}]]
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[ToolBody] | None = Field(default=None, max_length=128)
    tool_choice: Literal["auto", "none"] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = None
    n: Literal[1] | None = None
    user: str | None = Field(default=None, max_length=256)
    metadata: dict[str, str] | None = Field(default=None, max_length=16)

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, body: object) -> object:
        return refuse_unsupported(body) if isinstance(body, dict) else body

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_chat(self)
        return self

    @property
    def agent(self) -> str | None:
        """The agent's name, where `model` names one."""
        if not self.model.startswith(AGENT_PREFIX):
            return None
        return self.model.removeprefix(AGENT_PREFIX)

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage


def refuse_unsupported(body: Mapping[str, object]) -> dict[str, object]:
    """The body without nulls and neutral values.

    Raises:
        Permanent: `unsupported_parameter`, naming the first parameter that asks for something
            that we do not do.
    """
    kept: dict[str, object] = {}
    for name, value in body.items():
        if value is None:
            continue
        if name in ChatBody.model_fields:
            kept[name] = value
        elif value not in _NEUTRAL.get(name, ()):
            raise Permanent(
                "unsupported_parameter", f"Unsupported parameter: {name[:80]!r}", field=name[:80]
            )
    if kept.get("n", 1) != 1:
        raise Permanent("unsupported_parameter", "only n = 1 is supported", field="n")
    choice = kept.get("tool_choice", "auto")
    if choice not in ("auto", "none"):
        raise Permanent(
            "unsupported_parameter",
            "tool_choice may be 'auto' or 'none'; a call cannot be forced",
            field="tool_choice",
        )
    return kept


def check_chat(body: ChatBody) -> None:
    """What single fields cannot say.

    Raises:
        Permanent: `invalid_request` or `unsupported_parameter`, naming the field.
    """
    if body.stream_options is not None and not body.stream:
        raise _invalid("stream_options", "stream_options needs stream: true")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise _invalid("max_tokens", "give max_tokens or max_completion_tokens, not both")
    for index, message in enumerate(body.messages):
        _check_message(message, f"messages.{index}")
    if body.agent is not None:
        _check_agent_chat(body)
    elif "session" in (body.metadata or {}):
        raise _invalid("metadata.session", "a session needs model: agent:<name>")


def _check_message(message: ChatMessageBody, where: str) -> None:
    if message.role == "tool" and not message.tool_call_id:
        raise _invalid(f"{where}.tool_call_id", "a tool message answers a call: name its id")
    if message.tool_calls and message.role != "assistant":
        raise _invalid(f"{where}.tool_calls", "only the assistant calls tools")
    if message.content is None and not message.tool_calls:
        raise _invalid(f"{where}.content", "the message is empty")


def _check_agent_chat(body: ChatBody) -> None:
    check_token(body.agent or "", "model")
    if body.tools or body.tool_choice == "none":
        name = "tools" if body.tools else "tool_choice"
        raise Permanent(
            "unsupported_parameter",
            f"{name}: an agent has its tools from its definition",
            field=name,
        )
    if (session := (body.metadata or {}).get("session")) is not None:
        check_token(session, "metadata.session")


def _invalid(field: str, detail: str) -> Permanent:
    return Permanent("invalid_request", detail, field=field)


def sampling_of(body: ChatBody, base: Sampling) -> Sampling:
    """`base` with what the request sets."""
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or base.stop)
    most = body.max_completion_tokens or body.max_tokens
    return Sampling(
        temperature=base.temperature if body.temperature is None else body.temperature,
        top_p=base.top_p if body.top_p is None else body.top_p,
        max_tokens=base.max_tokens if most is None else most,
        seed=base.seed if body.seed is None else body.seed,
        stop=stop,
        top_k=base.top_k,
    )


def direct_request(body: ChatBody, tenant: str, completion_id: str) -> DirectRequest:
    """The stateless completion that the body asks for."""
    tools = () if body.tool_choice == "none" else tuple(body.tools or ())
    return DirectRequest(
        id=completion_id,
        tenant=tenant,
        model=body.model,
        messages=tuple(_chat_message(message) for message in body.messages),
        sampling=sampling_of(body, Sampling()),
        tools=tuple(
            ToolSpec(
                name=tool.function.name,
                description=tool.function.description,
                parameters=tool.function.parameters,
            )
            for tool in tools
        ),
    )


def _chat_message(message: ChatMessageBody) -> ChatMessage:
    return ChatMessage(
        role=_ROLES.get(message.role, message.role),
        content=message.text(),
        tool_calls=tuple(call.model_dump() for call in message.tool_calls or ()),
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


def task_input(body: ChatBody, *, existing: bool) -> str | tuple[InputMessage, ...]:
    """What an agent's session gets: the last user message if it knows the rest already.

    Raises:
        Permanent: `invalid_request` for tool messages (a session has its own), or where an
            existing session gets no user message.
    """
    if existing:
        last = body.messages[-1]
        if last.role != "user" or not last.text():
            raise _invalid("messages", "the last message for an existing session must be a user's")
        return last.text() or ""
    for index, message in enumerate(body.messages):
        if message.role == "tool" or message.tool_calls:
            raise _invalid(
                f"messages.{index}", "tool calls of another conversation cannot enter a session"
            )
    if len(body.messages) == 1 and body.messages[0].role == "user":
        return body.messages[0].text() or ""
    return tuple(
        InputMessage(role=_ROLES.get(message.role, message.role), content=message.text() or "")
        for message in body.messages
    )
