"""The input of a response: OpenAI's items as messages of ours.

An answer with calls is several items there and one message here; a result finds its call by its id.
What was thought in earlier answers is taken and shown to no model. What we do not have (images,
files) is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from msgspec.structs import replace

from shared.contracts.tasks import InputMessage, PastCall
from shared.errors import Permanent

Item = Mapping[str, object]
ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXTS = frozenset({"input_text", "output_text", "text"})
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Given:
    """An input in three parts: the history, results for calls at its end, words behind them."""

    before: tuple[InputMessage, ...] = ()
    results: tuple[InputMessage, ...] = ()
    after: tuple[InputMessage, ...] = ()

    @property
    def messages(self) -> tuple[InputMessage, ...]:
        """All of it."""
        return (*self.before, *self.results, *self.after)


def references(items: Sequence[Item]) -> list[str]:
    """The ids of the items that are only named."""
    return [str(item.get("id")) for item in items if item.get("type") == "item_reference"]


def messages_of(given: str | Sequence[Item], field: str = "input") -> tuple[InputMessage, ...]:
    """The messages that items stand for.

    Raises:
        Permanent: `invalid_request` or `unsupported_parameter`, naming the item.
    """
    if isinstance(given, str):
        return (InputMessage(role="user", content=given),)
    found: list[InputMessage] = []
    for place, item in enumerate(given):
        for message in _messages(item, f"{field}.{place}"):
            _add(found, message)
    return tuple(found)


def parts_of(messages: Sequence[InputMessage]) -> Given:
    """Where the results at the end of an input begin and end."""
    end = len(messages)
    while end and messages[end - 1].role in ("user", "system"):
        end -= 1
    start = end
    while start and messages[start - 1].tool_call_id:
        start -= 1
    if start == end:
        return Given(before=tuple(messages))
    return Given(tuple(messages[:start]), tuple(messages[start:end]), tuple(messages[end:]))


def check_balance(messages: Sequence[InputMessage], known: Sequence[str] = ()) -> None:
    """Each call needs one result, each result a call: one in the input, or one of `known`.

    Raises:
        Permanent: `missing_tool_output`, `unknown_call`, naming the call.
    """
    waiting, made = list(known), set(known)
    for message in messages:
        if call := message.tool_call_id:
            if call not in made:
                raise Permanent(
                    "unknown_call", f"No tool call found for call_id {call[:100]!r}", field="input"
                )
            if call in waiting:
                waiting.remove(call)
        elif waiting and message.role == "assistant":
            break
        waiting += [call.id for call in message.tool_calls]
        made |= {call.id for call in message.tool_calls}
    if waiting:
        raise missing(waiting[0])


def missing(call: str) -> Permanent:
    """A call was left without a result."""
    detail = f"No tool output found for function call {call[:100]}"
    return Permanent("missing_tool_output", detail, field="input")


def _add(found: list[InputMessage], message: InputMessage) -> None:
    """Calls belong to the answer before them, as one message."""
    last = found[-1] if found else None
    joins = message.tool_calls and message.content == ""
    if last is not None and joins and last.role == "assistant":
        found[-1] = replace(last, tool_calls=(*last.tool_calls, *message.tool_calls))
    else:
        found.append(message)


def _messages(item: Item, field: str) -> list[InputMessage]:
    kind = item.get("type", "message")
    match kind:
        case "message":
            return [_message(item, field)]
        case "function_call":
            return [_call(item, field)]
        case "function_call_output":
            call = _text(item, "call_id", field)
            return [InputMessage(role="tool", content=_output(item, field), tool_call_id=call)]
        case "mcp_call":
            return _server_call(item, field)
        case "reasoning":
            return []
    detail = f"items of type {str(kind)[:40]!r} are not supported here"
    raise Permanent("unsupported_parameter", detail, field=f"{field}.type")


def _message(item: Item, field: str) -> InputMessage:
    role = ROLES.get(str(item.get("role")))
    if role is None:
        detail = f"a message is of user, assistant, system or developer, not {item.get('role')!r}"
        raise Permanent("invalid_request", detail[:200], field=f"{field}.role")
    return InputMessage(role=role, content=_content(item.get("content"), f"{field}.content"))


def _content(content: object, field: str) -> str:
    """The text of a content: a string, or parts of text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Permanent("invalid_request", "a text, or a list of parts", field=field)
    texts: list[str] = []
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) else None
        if kind not in _TEXTS:
            detail = f"parts of type {str(kind)[:40]!r} are not supported: text only"
            raise Permanent("unsupported_parameter", detail, field=f"{field}.{place}.type")
        if not isinstance(text, str):
            raise Permanent("invalid_request", "a part has a text", field=f"{field}.{place}.text")
        texts.append(text)
    return "\n".join(texts)


def _call(item: Item, field: str) -> InputMessage:
    call = PastCall(
        id=_text(item, "call_id", field),
        name=_text(item, "name", field),
        arguments=_text(item, "arguments", field),
    )
    return InputMessage(role="assistant", content="", tool_calls=(call,))


def _server_call(item: Item, field: str) -> list[InputMessage]:
    """A call that some server answered, with its result."""
    name = _text(item, "id", field)
    call = PastCall(
        id=name, name=_text(item, "name", field), arguments=_text(item, "arguments", field)
    )
    result = item.get("output") or item.get("error") or ""
    text = result if isinstance(result, str) else orjson.dumps(result).decode()
    return [
        InputMessage(role="assistant", content="", tool_calls=(call,)),
        InputMessage(role="tool", content=text, tool_call_id=name),
    ]


def _output(item: Item, field: str) -> str:
    output = item.get("output")
    if output is None:
        raise Permanent("invalid_request", "the output is missing", field=f"{field}.output")
    return _content(output, f"{field}.output")


def _text(item: Item, name: str, field: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or (name != "arguments" and not value):
        raise Permanent("invalid_request", f"{name} is a text", field=f"{field}.{name}")
    return value
