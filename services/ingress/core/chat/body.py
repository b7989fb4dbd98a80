"""The body of `POST /v1/chat/completions`: what is supported, and how it becomes a request.

A parameter that we do not support is refused by name, never ignored; its neutral value (the one
that asks for nothing) is accepted, because many clients send it always.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.ingress.core.catalog import Tier, agent_of, priority_of
from services.ingress.core.chat.parts import (
    ChatMessageBody,
    ResponseFormatBody,
    StreamOptions,
    TemplateBody,
    ToolBody,
    ToolChoiceBody,
    invalid,
    refuse_message,
    unsupported,
)
from services.ingress.core.http.schemas import check_schema, check_schemas
from services.ingress.core.http.validation import MAX_MESSAGES, supported
from shared.contracts.agents import Effort, Sampling
from shared.contracts.base import check_token
from shared.contracts.demands import Demands, ResponseFormat
from shared.contracts.work import ChatMessage, DirectRequest

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "store": (False,),
    "modalities": (["text"],),
}
ROLES = {"developer": "system"}
Penalty = Annotated[float, Field(ge=-2, le=2)]
Bias = dict[
    Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]
]
Written = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]


class ChatBody(BaseModel):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="a route, a model, or agent:<name> for the durable loop",
        examples=["agent:assistant"],
    )
    messages: list[ChatMessageBody] = Field(
        min_length=1,
        max_length=MAX_MESSAGES,
        examples=[[{"role": "user", "content": "What is 17 * 23?"}]],
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[ToolBody] | None = Field(default=None, max_length=128)
    tool_choice: Literal["auto", "none", "required"] | ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormatBody | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Annotated[Bias, Field(max_length=1024)] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    n: int | None = Field(default=None, ge=1, le=8)
    reasoning_effort: Effort | None = Field(
        default=None, description="none: the model does not think; else a hint how much"
    )
    chat_template_kwargs: TemplateBody | None = None
    service_tier: Tier | None = Field(
        default=None, description="flex: it waits while interactive work does"
    )
    user: str | None = Field(default=None, max_length=256)
    metadata: Annotated[Written, Field(max_length=16)] | None = None

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
        return agent_of(self.model)

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
    kept = supported(body, ChatBody.model_fields, _NEUTRAL)
    messages = kept.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        refuse_message(message, f"messages.{index}")
    return kept


def check_chat(body: ChatBody) -> None:
    """What single fields cannot say.

    Raises:
        Permanent: `invalid_request` or `unsupported_parameter`, naming the field.
    """
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "stream_options needs stream: true")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise invalid("max_tokens", "give max_tokens or max_completion_tokens, not both")
    for index, message in enumerate(body.messages):
        _check_message(message, f"messages.{index}")
    _check_tools(body)
    _check_form(body)
    _check_thinking(body)
    if body.agent is not None:
        _check_agent_chat(body)
    elif "session" in (body.metadata or {}):
        raise invalid("metadata.session", "a session needs model: agent:<name>")


def _check_message(message: ChatMessageBody, where: str) -> None:
    if message.role == "tool" and not message.tool_call_id:
        raise invalid(f"{where}.tool_call_id", "a tool message answers a call: name its id")
    if message.tool_calls and message.role != "assistant":
        raise invalid(f"{where}.tool_calls", "only the assistant calls tools")
    if message.content is None and not message.tool_calls:
        raise invalid(f"{where}.content", "the message is empty")


def _check_tools(body: ChatBody) -> None:
    names: set[str] = set()
    for index, tool in enumerate(body.tools or ()):
        if tool.function.name in names:
            name = f"tools.{index}.function.name"
            raise invalid(name, f"there are two tools {tool.function.name!r}")
        names.add(tool.function.name)
    check_schemas(
        (f"tools.{index}.function.parameters", tool.function.parameters)
        for index, tool in enumerate(body.tools or ())
    )
    choice = body.tool_choice
    if body.agent is not None:
        return  # it may be one of the agent's: its session judges that
    if isinstance(choice, ToolChoiceBody) and choice.function.name not in names:
        raise invalid("tool_choice", f"there is no tool {choice.function.name[:64]!r}")
    if choice == "required" and not names:
        raise invalid("tool_choice", "a call can be required only where there are tools")


def _check_form(body: ChatBody) -> None:
    wanted = body.response_format
    if wanted is not None and (wanted.type == "json_schema") != (wanted.json_schema is not None):
        detail = "json_schema goes with type: json_schema, and is needed there"
        raise invalid("response_format.json_schema", detail)
    if wanted is not None and wanted.json_schema is not None:
        check_schema(wanted.json_schema.schema_, "response_format.json_schema.schema")
    if body.top_logprobs and not body.logprobs:
        raise invalid("top_logprobs", "top_logprobs needs logprobs: true")


def _check_thinking(body: ChatBody) -> None:
    template, effort = body.chat_template_kwargs, body.reasoning_effort
    if template is None or effort is None:
        return
    if template.enable_thinking is not None and template.enable_thinking == (effort == "none"):
        detail = "it says the opposite of reasoning_effort: give one of the two"
        raise invalid("chat_template_kwargs.enable_thinking", detail)


def _effort(body: ChatBody) -> Effort | None:
    template = body.chat_template_kwargs
    if body.reasoning_effort is not None or template is None or template.enable_thinking is None:
        return body.reasoning_effort
    return "medium" if template.enable_thinking else "none"


def _check_agent_chat(body: ChatBody) -> None:
    check_token(body.agent or "", "model")
    refused = (
        ("logprobs", bool(body.logprobs), ""),
        ("n", (body.n or 1) > 1, "an agent's task has one answer"),
    )
    for name, asked, why in refused:
        if asked:
            why = why or "not for an agent's task"
            raise unsupported(name, f"{name}: {why}")
    if (session := (body.metadata or {}).get("session")) is not None:
        check_token(session, "metadata.session")


def demands_of(body: ChatBody) -> Demands:
    """What the answer is held to."""
    choice, form = body.tool_choice or "auto", body.response_format
    named = choice.function.name if isinstance(choice, ToolChoiceBody) else ""
    return Demands(
        tool_choice="function" if isinstance(choice, ToolChoiceBody) else choice,
        function=named,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        response_format=ResponseFormat() if form is None else form.wanted(),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        effort=_effort(body),
    )


def sampling_of(body: ChatBody, base: Sampling) -> Sampling:
    """`base` with what the request sets."""
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or base.stop)
    most = body.max_completion_tokens or body.max_tokens
    return Sampling(
        temperature=_given(body.temperature, base.temperature),
        top_p=_given(body.top_p, base.top_p),
        max_tokens=base.max_tokens if most is None else most,
        seed=base.seed if body.seed is None else body.seed,
        stop=stop,
        top_k=base.top_k,
        frequency_penalty=_given(body.frequency_penalty, base.frequency_penalty),
        presence_penalty=_given(body.presence_penalty, base.presence_penalty),
        logit_bias=base.logit_bias if body.logit_bias is None else body.logit_bias,
    )


def _given(asked: float | None, base: float) -> float:
    return base if asked is None else asked


def direct_requests(body: ChatBody, tenant: str, completion_id: str) -> list[DirectRequest]:
    """The stateless completions that the body asks for, one per choice.

    Choices of one seed would all be the same, so each has the next one.
    """
    count = body.n or 1
    first = DirectRequest(
        id=completion_id,
        tenant=tenant,
        model=body.model,
        messages=tuple(_chat_message(message) for message in body.messages),
        sampling=sampling_of(body, Sampling()),
        tools=tuple(tool.spec() for tool in body.tools or ()),
        demands=demands_of(body),
        priority=priority_of(body.service_tier) or "interactive",
        metadata=(body.metadata or {}) | ({"user": body.user} if body.user else {}),
        whole=not body.stream,
    )
    return [first] if count == 1 else [_choice(first, index) for index in range(count)]


def _choice(request: DirectRequest, index: int) -> DirectRequest:
    seed = request.sampling.seed
    sampling = replace(request.sampling, seed=None if seed is None else seed + index)
    return replace(request, id=f"{request.id}-{index}", sampling=sampling)


def _chat_message(message: ChatMessageBody) -> ChatMessage:
    return ChatMessage(
        role=ROLES.get(message.role, message.role),
        content=message.text(),
        tool_calls=tuple(call.model_dump() for call in message.tool_calls or ()),
        tool_call_id=message.tool_call_id,
        name=message.name,
        reasoning=message.reasoning_content or "",
    )
