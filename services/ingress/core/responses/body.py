"""The body of `POST /v1/responses`: what is supported, and what it asks of a task.

A parameter that we do not support is refused by name, never ignored; its neutral value (the one
that asks for nothing) is accepted, because many clients send it always. `user`,
`safety_identifier` and `prompt_cache_key` are kept and shown again; nothing here depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.ingress.core.catalog import Tier, agent_of, priority_of
from services.ingress.core.http.schemas import check_schema, check_schemas
from services.ingress.core.http.validation import supported
from services.ingress.core.responses.fold import ECHO
from services.ingress.core.responses.input import MOST
from services.ingress.core.tasks.bodies import Body
from shared.contracts.agents import BARE, Effort, Sampling, ToolSpec
from shared.contracts.demands import Demands, ResponseFormat
from shared.contracts.tasks import Terms
from shared.errors import Permanent

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "include": ([], ["reasoning.encrypted_content"]),
    "top_logprobs": (0,),
    "prompt_cache_retention": ("in_memory", "in-memory", "24h"),
    "context_management": ([], {}),
}
_HOSTED = "tools on this side are those of an agent (model: agent:<name>); only 'function' is yours"


class FunctionToolBody(BaseModel):
    """A tool of the client, which answers its calls itself."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: Literal[False] | None = None

    def as_spec(self) -> ToolSpec:
        """The tool as it stands in a task."""
        return ToolSpec(
            name=self.name,
            description=self.description or "",
            parameters=self.parameters or {"type": "object", "properties": {}},
            strict=bool(self.strict),
        )


class ChosenFunctionBody(Body):
    """The one function that has to be called."""

    type: Literal["function"]
    name: str


class FormatBody(BaseModel):
    """The form of the answer's text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None

    def as_format(self) -> ResponseFormat:
        """The form as a model call has it.

        Raises:
            Permanent: `invalid_request` for a schema that is missing.
        """
        if self.type != "json_schema":
            return ResponseFormat(type=self.type)
        if self.schema_ is None or self.name is None:
            field = "text.format.schema" if self.schema_ is None else "text.format.name"
            raise Permanent("invalid_request", "json_schema needs a name and a schema", field=field)
        return ResponseFormat(
            type="json_schema", name=self.name, schema=self.schema_, strict=bool(self.strict)
        )


class TextBody(Body):
    """How the answer's text shall be."""

    format: FormatBody | None = None
    verbosity: Literal["medium"] | None = None


class StreamOptionsBody(Body):
    """Nothing of it is needed here: a stream is not obfuscated."""

    include_obfuscation: Literal[False] | None = None


class ReasoningBody(Body):
    """How much the model thinks. What it thought is shown whole: there is no summary of it."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ConversationBody(Body):
    """A conversation by its id."""

    id: str


class ResponseBody(BaseModel):
    """`POST /v1/responses`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="a route, a model, or agent:<name> with its tools on this side",
        examples=["default"],
    )
    input: str | Annotated[list[dict[str, Any]], Field(max_length=MOST)] = Field(
        default_factory=list, examples=["What is 17 * 23?"]
    )
    instructions: str | None = Field(
        default=None, description="for this response only, behind those of an agent"
    )
    previous_response_id: str | None = None
    conversation: str | ConversationBody | None = None
    background: bool | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptionsBody | None = None
    tools: list[FunctionToolBody] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | ChosenFunctionBody | None = None
    parallel_tool_calls: bool | None = None
    text: TextBody | None = None
    reasoning: ReasoningBody | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    service_tier: Tier | None = Field(
        default=None, description="flex: it waits while interactive work does"
    )
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    max_tool_calls: int | None = Field(
        default=None, ge=1, description="of tools on this side: a model without an agent has none"
    )
    truncation: Literal["auto", "disabled"] | None = Field(
        default=None, description="auto: what is too long for the model loses its beginning"
    )
    metadata: dict[str, Annotated[str, Field(max_length=512)]] | None = Field(
        default=None, max_length=16
    )
    user: str | None = Field(default=None, max_length=256)
    safety_identifier: str | None = Field(default=None, max_length=256)
    prompt_cache_key: str | None = Field(default=None, max_length=256)

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, body: object) -> object:
        return refuse_unsupported(body) if isinstance(body, dict) else body

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_response(self)
        return self

    @property
    def agent(self) -> str:
        """The agent whose task it becomes."""
        named = agent_of(self.model)
        return BARE.name if named is None else named

    @property
    def by_agent(self) -> bool:
        """Whether `model` names an agent."""
        return agent_of(self.model) is not None

    @property
    def conversation_id(self) -> str | None:
        """The conversation that it belongs to."""
        given = self.conversation
        return given.id if isinstance(given, ConversationBody) else given

    @property
    def stored(self) -> bool:
        """Whether it can be asked for afterwards."""
        return self.store is not False


def refuse_unsupported(body: Mapping[str, object]) -> dict[str, object]:
    """The body without nulls and neutral values.

    Raises:
        Permanent: `unsupported_parameter`, naming the first parameter that asks for something
            that we do not do.
    """
    kept = supported(body, ResponseBody.model_fields, _NEUTRAL)
    _refuse_hosted(kept)
    return kept


def _refuse_hosted(body: Mapping[str, object]) -> None:
    tools = body.get("tools")
    for place, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "function":
            detail = f"Unsupported tool type {kind[:40]!r}: {_HOSTED}"
            raise Permanent("unsupported_parameter", detail, field=f"tools.{place}.type")
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") != "function":
        detail = f"tool_choice of type {str(choice.get('type'))[:40]!r} is not supported"
        raise Permanent("unsupported_parameter", detail, field="tool_choice.type")


def check_response(body: ResponseBody) -> None:
    """What single fields cannot say.

    Raises:
        Permanent: `invalid_request` or `unsupported_parameter`, naming the field.
    """
    if body.stream_options is not None and not body.stream:
        raise _invalid("stream_options", "stream_options needs stream: true")
    if body.conversation is not None and body.previous_response_id is not None:
        raise _invalid("previous_response_id", "not together with conversation")
    if body.background and not body.stored:
        raise _invalid("background", "a response that is not stored cannot be asked for later")
    if body.conversation is not None and not body.stored:
        raise _invalid("store", "what belongs to a conversation is stored")
    if ECHO in (body.metadata or {}):
        raise _invalid("metadata", f"the key {ECHO} is ours")
    _check_tools(body)
    if body.text is not None and body.text.format is not None:
        wanted = body.text.format.as_format()
        check_schema(wanted.schema or {}, "text.format.schema")


def _check_tools(body: ResponseBody) -> None:
    names = [tool.name for tool in body.tools or ()]
    if len(set(names)) < len(names):
        raise _invalid("tools", "two tools have the same name")
    check_schemas(
        (f"tools.{place}.parameters", tool.parameters or {})
        for place, tool in enumerate(body.tools or ())
    )
    if body.max_tool_calls is not None and body.by_agent:
        detail = "the calls of an agent's tools are bounded by its limits, not by a request"
        raise Permanent("unsupported_parameter", detail, field="max_tool_calls")


def _invalid(field: str, detail: str) -> Permanent:
    return Permanent("invalid_request", detail, field=field)


def terms_of_body(body: ResponseBody, base: Sampling) -> Terms:
    """What a body wants of the model calls, beside its input; `base` is the agent's sampling."""
    return Terms(
        tools=tuple(tool.as_spec() for tool in body.tools or ()),
        instructions=body.instructions or "",
        route="" if body.by_agent else body.model,
        demands=_demands(body),
        priority=priority_of(body.service_tier),
        sampling=Sampling(
            temperature=base.temperature if body.temperature is None else body.temperature,
            top_p=base.top_p if body.top_p is None else body.top_p,
            max_tokens=body.max_output_tokens or base.max_tokens,
            seed=base.seed,
            stop=base.stop,
        ),
        metadata=_metadata(body),
    )


def _demands(body: ResponseBody) -> Demands:
    choice = body.tool_choice or "auto"
    wanted = body.text.format if body.text is not None else None
    function = choice.name if isinstance(choice, ChosenFunctionBody) else ""
    return Demands(
        tool_choice="function" if isinstance(choice, ChosenFunctionBody) else choice,
        function=function,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        response_format=ResponseFormat() if wanted is None else wanted.as_format(),
        truncation=body.truncation or "disabled",
        effort=body.reasoning.effort if body.reasoning is not None else None,
    )


def _metadata(body: ResponseBody) -> dict[str, str]:
    """The client's metadata, and what of the request has to be shown again as it came."""
    conversation = body.conversation_id
    echo = {
        "model": body.model,
        "background": body.background or None,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "previous_response_id": body.previous_response_id,
        "conversation": None if conversation is None else {"id": conversation},
        "store": None if body.stored else False,
        "user": body.user,
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
        "summary": body.reasoning.summary if body.reasoning is not None else None,
    }
    kept = {name: value for name, value in echo.items() if value is not None}
    return (body.metadata or {}) | {ECHO: orjson.dumps(kept).decode()}
