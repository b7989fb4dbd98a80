"""Owns the markups in which every call stands between an opening and a closing tag.

Hermes and Qwen: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`. Qwen3-Coder has XML
between the same tags. DeepSeek has tags around all calls beside those around each: they say
nothing and are dropped. Must not know tokens, tools that exist, or ids of calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.inference.core.text import held_back
from services.inference.core.toolcalls.events import Event, MalformedToolCall, TextDelta, ToolCall
from services.inference.core.toolcalls.feeding import BesideCalls
from services.inference.core.toolcalls.json_calls import NotACall, inside_string, read_call

OPEN = "<tool_call>"
CLOSE = "</tool_call>"


@dataclass(frozen=True, slots=True)
class Tags:
    """A markup: its tags, how to read what stands between them, and when a closing tag is data."""

    opening: str = OPEN
    closing: str = CLOSE
    read: Callable[[str, int], ToolCall] = read_call
    is_data: Callable[[str], bool] = inside_string
    silent: tuple[str, ...] = ()

    @property
    def openers(self) -> tuple[str, ...]:
        """What ends text."""
        return (self.opening, *self.silent)


HERMES = Tags()


class TaggedCalls(BesideCalls):
    """`Parser` of a markup with tags."""

    def __init__(self, tags: Tags = HERMES) -> None:
        self._tags = tags
        super().__init__()
        self._in_call = False
        self._searched = 0

    def finish(self) -> list[Event]:
        """See `Parser`; what is whole but for its closing tag is a call."""
        events: list[Event] = []
        while self._in_call:
            self._close_at_end(events)
            self._go_on(events)
        if rest := self._rest():
            events.append(TextDelta(rest))
        return events

    def _advance(self, events: list[Event]) -> bool:
        return self._advance_call(events) if self._in_call else self._advance_text(events)

    def _advance_text(self, events: list[Event]) -> bool:
        if self._after_call:
            self._pending = self._pending.lstrip()
        tag = self._text_until(self._tags.openers, events)
        if tag:
            self._in_call, self._searched = tag == self._tags.opening, 0
            self._after_call = True
        return bool(tag)

    def _advance_call(self, events: list[Event]) -> bool:
        closing = self._tags.closing
        end = self._pending.find(closing, self._searched)
        if end < 0:
            self._searched = max(self._searched, len(self._pending) - len(closing) + 1)
            return False
        if self._tags.is_data(self._pending[:end]):
            self._searched = end + len(closing)
            return True
        self._close(events, end, end + len(closing), "")
        return True

    def _close_at_end(self, events: list[Event]) -> None:
        """The stream ended inside a call: accept a whole object, else cut at the first tag."""
        closing = self._tags.closing
        end = self._pending.find(closing)
        if end < 0:
            cut = len(self._pending) - held_back(self._pending, (closing,))
            self._close(events, cut, len(self._pending), "unterminated: ")
        else:
            self._close(events, end, end + len(closing), "")

    def _close(self, events: list[Event], end: int, resume: int, prefix: str) -> None:
        body, self._pending = self._pending[:end], self._pending[resume:]
        try:
            events.append(self._tags.read(body, self._calls))
        except NotACall as error:
            events.append(MalformedToolCall(self._calls, body, f"{prefix}{error}"))
        self._calls += 1
        self._in_call, self._after_call = False, True
