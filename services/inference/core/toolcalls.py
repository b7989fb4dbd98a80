"""Owns the Hermes / Qwen markup: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

Must not know tokens, tools that exist, or ids of calls. The parser is incremental and its events,
with neighbouring text joined, are the same for every way of cutting the same text into pieces.
A call is one event, at its closing tag: half an argument object is of use to nobody who runs tools.
White space beside a call belongs to the markup (the chat template writes it) and is dropped.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from services.inference.core.text import held_back

OPEN = "<tool_call>"
CLOSE = "</tool_call>"


class TextDelta(msgspec.Struct, frozen=True, tag="text"):
    """More text for the reader."""

    text: str


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call"):
    """One complete call; `raw_arguments` is exactly what the model wrote."""

    index: int
    name: str
    arguments: dict[str, Any]
    raw_arguments: str


class MalformedToolCall(msgspec.Struct, frozen=True, tag="malformed_tool_call"):
    """Something between the tags that is not a call; `text` is what stood there."""

    index: int
    text: str
    reason: str


Event = TextDelta | ToolCall | MalformedToolCall


class _Call(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _NotACall(ValueError):
    """The text between the tags is not a call; the message says why."""


def parse_call(body: str, index: int) -> ToolCall:
    """Read the text between the tags."""
    try:
        # No lone surrogate can come from UTF-8, but a caller's text may hold one.
        call = msgspec.json.decode(body.encode("utf-8", "replace"), type=_Call)
        raw = bytes(call.arguments)
        arguments = orjson.loads(raw)
        if isinstance(arguments, str):  # some models quote the object once more
            raw = arguments.encode()
            arguments = orjson.loads(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _NotACall(str(error)) from error
    if arguments is None:
        raw, arguments = b"{}", {}
    if not isinstance(arguments, dict):
        raise _NotACall("arguments is not an object")
    if not call.name:
        raise _NotACall("name is empty")
    return ToolCall(index, call.name, arguments, raw.decode())


class ToolCallParser:
    """Feeds on text, gives events. Nothing the model writes makes it raise."""

    def __init__(self) -> None:
        self._pending = ""
        self._in_call = False
        self._searched = 0
        self._calls = 0
        self._after_call = False

    def feed(self, text: str) -> list[Event]:
        """Return what is certain now."""
        self._pending += text
        events: list[Event] = []
        while self._advance(events):
            pass
        return events

    def finish(self) -> list[Event]:
        """Return the rest: a held-back beginning is text, an open call is judged as it stands."""
        events: list[Event] = []
        while self._in_call:
            self._close_at_end(events)
            while self._advance(events):
                pass
        rest, self._pending = self._pending, ""
        if self._after_call:
            rest = rest.lstrip()
        if rest:
            events.append(TextDelta(rest))
        return events

    def _advance(self, events: list[Event]) -> bool:
        return self._advance_call(events) if self._in_call else self._advance_text(events)

    def _advance_text(self, events: list[Event]) -> bool:
        if self._after_call:
            self._pending = self._pending.lstrip()
        start = self._pending.find(OPEN)
        if start >= 0:
            self._emit_text(events, self._pending[:start].rstrip())
            self._pending = self._pending[start + len(OPEN) :]
            self._in_call, self._searched = True, 0
            return True
        certain = self._pending[: len(self._pending) - held_back(self._pending, (OPEN,))].rstrip()
        self._emit_text(events, certain)
        self._pending = self._pending[len(certain) :]
        return False

    def _emit_text(self, events: list[Event], text: str) -> None:
        if text:
            self._after_call = False
            events.append(TextDelta(text))

    def _advance_call(self, events: list[Event]) -> bool:
        end = self._pending.find(CLOSE, self._searched)
        if end < 0:
            self._searched = max(self._searched, len(self._pending) - len(CLOSE) + 1)
            return False
        if _inside_string(self._pending[:end]):
            self._searched = end + len(CLOSE)
            return True
        self._close(events, end, end + len(CLOSE), "")
        return True

    def _close_at_end(self, events: list[Event]) -> None:
        """The stream ended inside a call: accept a whole object, else cut at the first tag."""
        end = self._pending.find(CLOSE)
        if end < 0:
            cut = len(self._pending) - held_back(self._pending, (CLOSE,))
            self._close(events, cut, len(self._pending), "unterminated: ")
        else:
            self._close(events, end, end + len(CLOSE), "")

    def _close(self, events: list[Event], end: int, resume: int, prefix: str) -> None:
        body, self._pending = self._pending[:end], self._pending[resume:]
        try:
            events.append(parse_call(body, self._calls))
        except _NotACall as error:
            events.append(MalformedToolCall(self._calls, body, f"{prefix}{error}"))
        self._calls += 1
        self._in_call, self._after_call = False, True


def _inside_string(json_text: str) -> bool:
    """Whether the text ends inside a JSON string, so that a tag there is data."""
    inside = escaped = False
    for character in json_text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = inside
        elif character == '"':
            inside = not inside
    return inside
