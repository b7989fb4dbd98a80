"""The content blocks of `POST /v1/messages`, and the turns they make up for the model.

Owns which kinds of block there are: text, tool_use, tool_result, and thinking, which a model sees
again in the turn that goes on. Every other kind is refused by name with its place. `cache_control`
is accepted and asks for nothing: the prefix cache of a worker is automatic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import Discriminator, Field, Tag

from services.ingress.core.tasks.bodies import Body, Text
from shared.contracts.tasks import InputMessage, PastCall
from shared.contracts.work import ChatMessage
from shared.errors import Permanent

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
CallId = Annotated[str, Field(min_length=1, max_length=256)]
_KINDS = {
    "text": "TextBlockBody",
    "tool_use": "ToolUseBody",
    "tool_result": "ToolResultBody",
    "thinking": "ThinkingBlockBody",
    "redacted_thinking": "RedactedBody",
}


class CacheControlBody(Body):
    """Where the client would have a prefix cached; here every prefix is."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class BlockBody(Body):
    """What all blocks may carry."""

    cache_control: CacheControlBody | None = None


class ResultTextBody(BlockBody):
    """Text of a tool's result. Null or empty `citations`, which clients echo back, say nothing."""

    type: Literal["text"]
    text: str
    citations: Annotated[list[Any], Field(max_length=0)] | None = None


class TextBlockBody(ResultTextBody):
    """Text that somebody says; a tool may return nothing, people and models say something."""

    text: Text


class CallerBody(Body):
    """Who called a tool: the model itself, never a program of its own."""

    type: Literal["direct"]


class ToolUseBody(BlockBody):
    """A call that the model made before."""

    type: Literal["tool_use"]
    id: CallId
    name: ToolName
    input: dict[str, Any]
    caller: CallerBody | None = None


class ToolResultBody(BlockBody):
    """What the client's tool returned for a call."""

    type: Literal["tool_result"]
    tool_use_id: CallId
    content: str | list[ResultTextBody] | None = None
    is_error: bool = False

    def text(self) -> str:
        """The result as the model reads it, an error marked like one of our own tools."""
        said = text_of(self.content or "")
        return f"error: {said}".rstrip() if self.is_error else said


class ThinkingBlockBody(Body):
    """What a model thought before: of any provider, whose signature says nothing to us."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class RedactedBody(Body):
    """What a model thought before and somebody has locked away."""

    type: Literal["redacted_thinking"]
    data: str


def _tag(block: object) -> str | None:
    kind = block.get("type") if isinstance(block, Mapping) else getattr(block, "type", None)
    return _KINDS.get(str(kind))


AnyBlock = Annotated[
    Annotated[TextBlockBody, Tag("TextBlockBody")]
    | Annotated[ToolUseBody, Tag("ToolUseBody")]
    | Annotated[ToolResultBody, Tag("ToolResultBody")]
    | Annotated[ThinkingBlockBody, Tag("ThinkingBlockBody")]
    | Annotated[RedactedBody, Tag("RedactedBody")],
    Discriminator(_tag),
]
Block = TextBlockBody | ToolUseBody | ToolResultBody | ThinkingBlockBody | RedactedBody


class TurnBody(Body):
    """One message: a string, or blocks."""

    role: Literal["user", "assistant"]
    content: Text | Annotated[list[AnyBlock], Field(min_length=1)]

    def blocks(self) -> Sequence[Block]:
        """The content as blocks; a string is short for one of text."""
        if isinstance(self.content, str):
            return [TextBlockBody(type="text", text=self.content)]
        return self.content


def text_of(content: str | Iterable[ResultTextBody]) -> str:
    """The text of a string or of blocks, as one."""
    if isinstance(content, str):
        return content
    return "\n".join(block.text for block in content)


def refuse_other_blocks(messages: object, system: object) -> None:
    """Name the first block that is of a kind that we do not take, and where it stands.

    Raises:
        Permanent: `unsupported_content`.
    """
    _only(system, "system", ("text",))
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        where = f"messages.{index}.content"
        _only(content, where, tuple(_KINDS))
        for place, block in enumerate(content if isinstance(content, list) else ()):
            if isinstance(block, dict) and block.get("type") == "tool_result":
                _only(block.get("content"), f"{where}.{place}.content", ("text",))


def _only(content: object, where: str, kinds: tuple[str, ...]) -> None:
    for index, block in enumerate(content if isinstance(content, list) else ()):
        kind = block.get("type") if isinstance(block, dict) else None
        if isinstance(kind, str) and kind not in kinds:
            raise Permanent(
                "unsupported_content",
                f"{where}.{index}: blocks of type {kind[:80]!r} are not supported here "
                f"(supported: {', '.join(kinds)})",
                field=f"{where}.{index}.type",
            )


def check_turns(turns: Sequence[TurnBody]) -> None:
    """Calls and results must pair up: a model has to see each call followed by its result.

    Raises:
        Permanent: `invalid_request`, naming the message or block that is out of place.
    """
    open_calls: dict[str, str] = {}
    for index, turn in enumerate(turns):
        if turn.role == "assistant":
            if open_calls:
                raise _unanswered(open_calls)
            open_calls = _calls_of(turn, f"messages.{index}.content")
        else:
            _answer(turn, f"messages.{index}.content", open_calls)
    if open_calls:
        raise _unanswered(open_calls)
    if turns[-1].role == "assistant":
        raise _invalid(
            f"messages.{len(turns) - 1}.role",
            "the last message must be the user's; the beginning of an answer cannot be given here",
        )


def _calls_of(turn: TurnBody, where: str) -> dict[str, str]:
    """The ids of a turn's calls, each with its place."""
    calls: dict[str, str] = {}
    for place, block in enumerate(turn.blocks()):
        if isinstance(block, ToolResultBody):
            raise _invalid(f"{where}.{place}", "a tool_result belongs into a message of the user")
        if isinstance(block, ToolUseBody):
            if block.id in calls:
                raise _invalid(f"{where}.{place}.id", "two calls have the same id")
            calls[block.id] = f"{where}.{place}"
    return calls


def _answer(turn: TurnBody, where: str, open_calls: dict[str, str]) -> None:
    """Take the calls that a user's turn answers out of `open_calls`."""
    for place, block in enumerate(turn.blocks()):
        if isinstance(block, ToolUseBody):
            raise _invalid(f"{where}.{place}", "a tool_use belongs into the assistant's message")
        if isinstance(block, ThinkingBlockBody | RedactedBody):
            raise _invalid(
                f"{where}.{place}", "what was thought belongs into the assistant's message"
            )
        if isinstance(block, ToolResultBody):
            if open_calls.pop(block.tool_use_id, None) is None:
                raise _invalid(
                    f"{where}.{place}.tool_use_id",
                    "no tool_use with this id in the message before is without its result",
                )
        elif open_calls:
            raise _invalid(
                f"{where}.{place}", "the results of all calls come first, then other content"
            )


def _unanswered(open_calls: Mapping[str, str]) -> Permanent:
    call, where = next(iter(open_calls.items()))
    return _invalid(where, f"the message after the tool_use {call[:80]!r} has no tool_result of it")


def _invalid(field: str, detail: str) -> Permanent:
    return Permanent("invalid_request", f"{field}: {detail}", field=field)


def chat_messages(turns: Iterable[TurnBody]) -> list[ChatMessage]:
    """The turns as the model's template takes them."""
    found: list[ChatMessage] = []
    for turn in turns:
        found += _assistant(turn) if turn.role == "assistant" else _user(turn)
    return found


def _assistant(turn: TurnBody) -> list[ChatMessage]:
    said = text_of(block for block in turn.blocks() if isinstance(block, TextBlockBody))
    calls = tuple(_call(block) for block in turn.blocks() if isinstance(block, ToolUseBody))
    thought = [one.thinking for one in turn.blocks() if isinstance(one, ThinkingBlockBody)]
    reasoning = "\n".join(filter(None, thought))
    return [
        ChatMessage(role="assistant", content=said or None, tool_calls=calls, reasoning=reasoning)
    ]


def _call(block: ToolUseBody) -> dict[str, object]:
    arguments = orjson.dumps(block.input).decode()
    function: dict[str, object] = {"name": block.name, "arguments": arguments}
    return {"id": block.id, "type": "function", "function": function}


def _user(turn: TurnBody) -> list[ChatMessage]:
    found = [
        ChatMessage(role="tool", content=block.text(), tool_call_id=block.tool_use_id)
        for block in turn.blocks()
        if isinstance(block, ToolResultBody)
    ]
    said = text_of(block for block in turn.blocks() if isinstance(block, TextBlockBody))
    return [*found, ChatMessage(role="user", content=said)] if said else found


def results_of(turn: TurnBody) -> dict[str, str]:
    """The results that a turn brings: call -> what the model reads."""
    return {
        block.tool_use_id: block.text()
        for block in turn.blocks()
        if isinstance(block, ToolResultBody)
    }


def past_messages(turns: Iterable[TurnBody]) -> list[InputMessage]:
    """The turns as they stand in a task."""
    said: list[InputMessage] = []
    for turn in turns:
        calls = {block.id: block for block in turn.blocks() if isinstance(block, ToolUseBody)}
        said += [
            InputMessage(
                role=message.role,
                content=message.content or "",
                tool_calls=tuple(_past(block) for block in calls.values()),
                tool_call_id=message.tool_call_id or "",
            )
            for message in chat_messages([turn])
        ]
    return said


def _past(block: ToolUseBody) -> PastCall:
    return PastCall(id=block.id, name=block.name, arguments=orjson.dumps(block.input).decode())
