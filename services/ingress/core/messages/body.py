"""The bodies of `POST /v1/messages` and `/v1/messages/count_tokens`, and the requests they become.

Anthropic's names and meaning. A parameter that we do not support is refused by name, never
ignored; its neutral value (the one that asks for nothing) is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.ingress.core.catalog import agent_of
from services.ingress.core.http.schemas import check_schemas
from services.ingress.core.http.validation import MAX_MESSAGES, supported
from services.ingress.core.messages.blocks import (
    BlockBody,
    CacheControlBody,
    TextBlockBody,
    ToolName,
    TurnBody,
    chat_messages,
    check_turns,
    past_messages,
    refuse_other_blocks,
    results_of,
    text_of,
)
from services.ingress.core.messages.thinking import (
    OutputConfigBody,
    Shown,
    ThinkingBody,
    effort_of,
    shown_of,
)
from services.ingress.core.tasks.bodies import Body
from shared.contracts.agents import Sampling, ToolSpec
from shared.contracts.base import check_token
from shared.contracts.demands import Demands
from shared.contracts.tasks import NO_TERMS, InputMessage, Terms
from shared.contracts.tasks import text_of as message_text
from shared.contracts.work import ChatMessage, DirectRequest
from shared.errors import Permanent

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "service_tier": ("auto", "standard_only"),
    "mcp_servers": ([],),
    "speed": ("standard",),
    "context_management": ({}, {"edits": []}),
}
_REFUSALS = {"thread": "thread_unsupported_request"}
"""Parameters whose refusal has a code that Anthropic's clients know: they do without, then."""
_CHOICES: dict[str, Literal["auto", "none", "required", "function"]] = {
    "auto": "auto",
    "any": "required",
    "tool": "function",
    "none": "none",
}


class InputSchemaBody(BaseModel):
    """A JSON schema of an object."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Literal["object"]


class ClientToolBody(BlockBody):
    """A tool of the client: it runs the call itself and sends the result in the next message."""

    type: Literal["custom"] | None = None
    name: ToolName
    description: str = ""
    input_schema: InputSchemaBody
    strict: Literal[False] | None = None

    def spec(self) -> ToolSpec:
        """The tool as a model sees it."""
        return ToolSpec(
            name=self.name,
            description=self.description,
            parameters=self.input_schema.model_dump(),
        )


class ToolChoiceBody(Body):
    """Whether tools are called: `auto`, `any` of them, one `tool` by name, or `none`."""

    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool = False

    def demands(self) -> Demands:
        """What the model is held to."""
        return Demands(
            tool_choice=_CHOICES[self.type],
            function=self.name or "",
            parallel_tool_calls=not self.disable_parallel_tool_use,
        )


class WhoBody(Body):
    """`metadata`: a name for the person behind the request."""

    user_id: str | None = Field(default=None, max_length=256)


class PromptBody(BaseModel):
    """What a model is given: the part that both paths take."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="a route, a model, or agent:<name> for the durable loop",
        examples=["agent:assistant"],
    )
    messages: list[TurnBody] = Field(
        min_length=1,
        max_length=MAX_MESSAGES,
        examples=[[{"role": "user", "content": "What is 17 * 23?"}]],
    )
    system: str | list[TextBlockBody] | None = None
    tools: list[ClientToolBody] | None = Field(default=None, max_length=128)
    tool_choice: ToolChoiceBody | None = None
    cache_control: CacheControlBody | None = Field(
        default=None, description="accepted; every prefix is cached in any case"
    )

    thinking: ThinkingBody | None = None
    output_config: OutputConfigBody | None = None

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, body: object) -> object:
        return refuse_unsupported(body, cls.model_fields) if isinstance(body, dict) else body

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_turns(self.messages)
        _check_tools(self)
        if self.agent is not None:
            _check_agent(self.agent, self.tool_choice)
        return self

    @property
    def agent(self) -> str | None:
        """The agent's name, where `model` names one."""
        return agent_of(self.model)


class MessagesBody(PromptBody):
    """`POST /v1/messages`."""

    max_tokens: int = Field(ge=1, examples=[256])
    stop_sequences: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None, max_length=16
    )
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    metadata: WhoBody | None = None

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        budget = None if self.thinking is None else self.thinking.budget_tokens
        if budget is not None and budget >= self.max_tokens:
            raise _invalid("thinking.budget_tokens", "it must be less than max_tokens")
        return self

    @property
    def shown(self) -> Shown:
        """What the client sees of what the model thinks."""
        return shown_of(self.thinking)

    @property
    def answered(self) -> int:
        """How many messages there are up to the last one of the assistant."""
        places = [n for n, turn in enumerate(self.messages, 1) if turn.role == "assistant"]
        return places[-1] if places else 0

    @property
    def returned(self) -> dict[str, str]:
        """The results that follow the last answer: call -> what the model reads."""
        new = self.messages[self.answered :]
        return {call: text for turn in new for call, text in results_of(turn).items()}

    @property
    def words(self) -> str:
        """What the user says beside results."""
        new = self.messages[self.answered :]
        return "\n".join(
            block.text
            for turn in new
            for block in turn.blocks()
            if isinstance(block, TextBlockBody)
        )

    @property
    def user(self) -> str | None:
        """Who is behind the request."""
        return self.metadata.user_id if self.metadata is not None else None


class CountBody(PromptBody):
    """`POST /v1/messages/count_tokens`."""

    @model_validator(mode="after")
    def _for_a_model(self) -> Self:
        if self.agent is not None:
            raise Permanent(
                "unsupported_parameter",
                "tokens are counted for a model; an agent's prompt is made of its session",
                field="model",
            )
        return self


def refuse_unsupported(body: Mapping[str, object], known: Mapping[str, Any]) -> dict[str, object]:
    """The body without nulls and neutral values.

    Raises:
        Permanent: `unsupported_parameter` or `unsupported_content`, naming the first thing that
            asks for something that we do not do.
    """
    kept = supported(body, known, _NEUTRAL, _REFUSALS)
    refuse_other_blocks(kept.get("messages"), kept.get("system"))
    _refuse_server_tools(kept.get("tools"))
    config = kept.get("output_config")
    if isinstance(config, dict) and config.get("format") is not None:
        detail = "output_config.format: the form of an answer cannot be demanded here"
        raise Permanent("unsupported_parameter", detail, field="output_config.format")
    return kept


def _refuse_server_tools(tools: object) -> None:
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "custom":
            raise Permanent(
                "unsupported_parameter",
                f"tools.{index}: there is no tool of type {kind[:80]!r} here; "
                "an agent has server-side tools (model: agent:<name>)",
                field=f"tools.{index}.type",
            )


def _check_tools(body: PromptBody) -> None:
    """That names are used once, and that the choice can be made.

    Raises:
        Permanent: `invalid_request`, naming the field.
    """
    names = [tool.name for tool in body.tools or ()]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _invalid(f"tools.{index}.name", f"there are two tools {name!r}")
    check_schemas(
        (f"tools.{index}.input_schema", tool.input_schema.model_dump())
        for index, tool in enumerate(body.tools or ())
    )
    choice = body.tool_choice
    if choice is None:
        return
    if not names and choice.type != "none":
        raise _invalid("tool_choice", "there are no tools to choose from")
    if (choice.type == "tool") != (choice.name is not None):
        raise _invalid("tool_choice.name", "name the tool with type 'tool', and only with it")
    if choice.name is not None and choice.name not in names:
        raise _invalid("tool_choice.name", f"there is no tool {choice.name!r}")


def _check_agent(agent: str, choice: ToolChoiceBody | None) -> None:
    check_token(agent, "model")
    if choice is not None and choice.type == "none":
        raise Permanent(
            "unsupported_parameter",
            "tool_choice: an agent uses the tools of its definition",
            field="tool_choice",
        )


def _invalid(field: str, detail: str) -> Permanent:
    return Permanent("invalid_request", f"{field}: {detail}", field=field)


def sampling_of(body: MessagesBody, base: Sampling) -> Sampling:
    """`base` with what the request sets."""
    given = {"temperature": body.temperature, "top_p": body.top_p, "top_k": body.top_k}
    chosen = {name: value for name, value in given.items() if value is not None}
    stop = base.stop if body.stop_sequences is None else tuple(body.stop_sequences)
    return replace(base, max_tokens=body.max_tokens, stop=stop, **chosen)


def direct_request(body: MessagesBody, tenant: str, message_id: str) -> DirectRequest:
    """The stateless completion that the body asks for."""
    sampling = sampling_of(body, Sampling())
    return replace(_prompt(body, tenant, message_id), sampling=sampling, whole=not body.stream)


def count_request(body: CountBody, tenant: str, message_id: str) -> DirectRequest:
    """The request that comes back with the number of the prompt's tokens.

    A worker of an older release would answer it: with one token.
    """
    request = _prompt(body, tenant, message_id)
    return replace(request, sampling=Sampling(max_tokens=1), count_only=True)


def _prompt(body: PromptBody, tenant: str, message_id: str) -> DirectRequest:
    terms = terms_of(body)
    system = text_of(body.system or "")
    first = [ChatMessage(role="system", content=system)] if system else []
    return DirectRequest(
        id=message_id,
        tenant=tenant,
        model=body.model,
        messages=(*first, *chat_messages(body.messages)),
        tools=terms.tools,
        demands=terms.demands,
    )


def terms_of(body: PromptBody) -> Terms:
    """The client's own tools, how they are to be called, and how much thought they are worth."""
    effort = effort_of(body.thinking, body.output_config)
    choice = body.tool_choice or ToolChoiceBody(type="auto")
    if not body.tools or choice.type == "none":
        return NO_TERMS if effort is None else Terms(demands=Demands(effort=effort))
    return Terms(
        tools=tuple(tool.spec() for tool in body.tools),
        demands=replace(choice.demands(), effort=effort),
    )


def task_input(body: MessagesBody, *, existing: bool) -> str | tuple[InputMessage, ...]:
    """What an agent's session gets: what follows the last answer if it knows the rest already.

    Raises:
        Permanent: `unknown_call` for results of calls that were not made in this session.
    """
    start = body.answered if existing else 0
    turns = body.messages[start:]
    if existing and (results := results_of(turns[0])):
        raise Permanent(
            "unknown_call",
            f"the session waits for no result of {next(iter(results))[:80]!r}",
            field=f"messages.{start}.content",
        )
    said = past_messages(turns)
    system = "" if existing else text_of(body.system or "")
    if system:
        return (InputMessage(role="system", content=system), *said)
    return message_text(said[0].content) if len(said) == 1 else tuple(said)
