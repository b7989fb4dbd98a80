"""Owns Mistral's calls: `[TOOL_CALLS]` and a list of them, or since 2025 a name and arguments.

`[TOOL_CALLS][{"name": ..., "arguments": {...}}]`, or for each call
`[TOOL_CALLS]name[CALL_ID]id[ARGS]{...}`, where the id and both marks behind the name may be absent.
"""

from __future__ import annotations

import re
from enum import Enum

from services.inference.core.toolcalls.events import Event, MalformedToolCall, TextDelta
from services.inference.core.toolcalls.feeding import BesideCalls
from services.inference.core.toolcalls.json_calls import (
    NotACall,
    ValueEnd,
    call_with,
    judged,
    raw_items,
)

OPEN = "[TOOL_CALLS]"
ARGS = "[ARGS]"
ID = "[CALL_ID]"
_NAMED = re.compile(
    rf"\s*([^\s\[\]{{}}]+)\s*(?:{re.escape(ID)}[^\[\]{{}}]*)?(?:{re.escape(ARGS)})?\s*"
)
_LISTED = re.compile(r"\s*\[\s*")


class _At(Enum):
    TEXT = "text, up to the opening mark"
    HEAD = "behind the mark, before the first brace"
    CALL = "inside of the braces, or of the list"
    LOST = "what is there is no call; up to the next mark"


class MistralCalls(BesideCalls):
    """`Parser` of Mistral's markup."""

    def __init__(self) -> None:
        super().__init__()
        self._at = _At.TEXT
        self._name = ""
        self._value = 0
        self._end = ValueEnd()

    def finish(self) -> list[Event]:
        """See `Parser`."""
        if self._at is not _At.TEXT:
            rest, self._pending = self._pending, ""
            return [self._malformed(rest, "unterminated: it has no end")]
        rest = self._rest()
        return [TextDelta(rest)] if rest else []

    def _advance(self, events: list[Event]) -> bool:
        match self._at:
            case _At.TEXT:
                return self._text(events)
            case _At.HEAD:
                return self._head()
            case _At.CALL:
                return self._call(events)
            case _At.LOST:
                return self._lost(events)

    def _text(self, events: list[Event]) -> bool:
        if self._after_call:
            self._pending = self._pending.lstrip()
        if not self._text_until((OPEN,), events):
            return False
        self._at = _At.HEAD
        return True

    def _head(self) -> bool:
        brace, opened = self._pending.find("{"), self._pending.find(OPEN)
        if opened >= 0 and not 0 <= brace < opened:
            self._at = _At.LOST
            return True
        if brace < 0:
            return False
        head = self._pending[:brace]
        if named := _NAMED.fullmatch(head):
            self._name, self._value = named[1], brace
        elif _LISTED.fullmatch(head):
            self._name, self._value = "", head.index("[")
        else:
            self._at = _At.LOST
            return True
        self._at, self._end = _At.CALL, ValueEnd()
        return True

    def _call(self, events: list[Event]) -> bool:
        end = self._end.find(self._pending[self._value :])
        if end is None:
            return False
        body, rest = self._pending[: self._value + end], self._pending[self._value + end :]
        found = self._read(body)
        events += found
        self._calls += len(found)
        self._pending, self._at, self._after_call = rest, _At.TEXT, True
        return True

    def _read(self, body: str) -> list[Event]:
        value = body[self._value :]
        try:
            if self._name:
                return [call_with(self._name, value, self._calls)]
            items = raw_items(value)
        except NotACall as error:
            return [MalformedToolCall(self._calls, body, str(error))]
        return [judged(item, self._calls + n, ("arguments",)) for n, item in enumerate(items)]

    def _lost(self, events: list[Event]) -> bool:
        start = self._pending.find(OPEN)
        if start < 0:
            return False
        events.append(self._malformed(self._pending[:start], "there are no arguments"))
        self._pending, self._at = self._pending[start + len(OPEN) :], _At.HEAD
        return True

    def _malformed(self, text: str, reason: str) -> MalformedToolCall:
        self._calls += 1
        return MalformedToolCall(self._calls - 1, text, reason)
