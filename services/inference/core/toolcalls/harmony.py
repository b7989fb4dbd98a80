"""Owns harmony, the format of gpt-oss: messages with a header, a channel and perhaps a recipient.

`<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...`. What is
in `analysis` is reasoning; what has a recipient is a call, in whatever channel; the rest is text.
The prompt ends with `<|start|>assistant`, so that an answer begins within a header (ADR 0036 says
why this is not left to `openai-harmony`).
"""

from __future__ import annotations

import re

from services.inference.core.text import held_back
from services.inference.core.toolcalls.events import (
    Event,
    MalformedToolCall,
    ReasoningDelta,
    TextDelta,
)
from services.inference.core.toolcalls.feeding import Feeding, first_of
from services.inference.core.toolcalls.json_calls import NotACall, call_with, inside_string

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
CONSTRAIN, END, CALL, RETURN = "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"
MARKS = (START, CHANNEL, MESSAGE, CONSTRAIN, END, CALL, RETURN)
_STOPS = (START, CHANNEL, END, CALL, RETURN)
_FIRST = (CHANNEL, MESSAGE, CONSTRAIN, START, "to=")
_RECIPIENT = re.compile(r"(?:^|[\s>])to=([^\s<]+)")
_CHANNEL = re.compile(re.escape(CHANNEL) + r"\s*([A-Za-z]+)")


class Harmony(Feeding):
    """`Parser` of harmony; one that takes no `calls` tells of them as malformed."""

    def __init__(self, *, calls: bool = True) -> None:
        self._takes_calls = calls
        super().__init__()
        self._in_header = True
        self._begun = False
        self._kind: type[TextDelta | ReasoningDelta] = TextDelta
        self._recipient = ""
        self._fresh = False
        self._told: set[type] = set()
        self._searched = self._calls = 0

    @property
    def inside(self) -> bool:
        """Whether what comes next is taken for reasoning."""
        return not self._in_header and not self._recipient and self._kind is ReasoningDelta

    @property
    def apart(self) -> bool:
        """Whether what came last was no part of the answer."""
        return self._in_header or self._fresh or bool(self._recipient) or self.inside

    def finish(self) -> list[Event]:
        """See `Parser`; a quote left open does not swallow what stands behind the call."""
        events: list[Event] = []
        while not self._in_header and self._recipient:
            end, mark = first_of(self._pending, _STOPS)
            self._close(end if mark else len(self._pending), mark, events)
            self._go_on(events)
        rest, self._pending = self._pending, ""
        if not self._in_header:
            self._tell(rest.rstrip() if self.inside else rest, events)
        elif not any(mark in rest for mark in MARKS):  # it is no header
            self._kind = TextDelta
            self._tell(rest, events)
        return events

    def _advance(self, events: list[Event]) -> bool:
        if self._in_header:
            return self._header()
        return self._call(events) if self._recipient else self._message(events)

    def _header(self) -> bool:
        if not self._begun:
            rest = self._pending.lstrip()
            if rest.startswith(_FIRST):
                self._begun = True
            elif any(first.startswith(rest) for first in _FIRST):
                return False
            else:  # an answer without any header: text
                self._begun, self._in_header = True, False
                return True
        end = self._pending.find(MESSAGE)
        if end < 0:
            return False
        header, self._pending = self._pending[:end], self._pending[end + len(MESSAGE) :]
        channel, recipient = _CHANNEL.search(header), _RECIPIENT.search(header)
        analysis = channel is not None and channel[1] == "analysis"
        self._kind = ReasoningDelta if analysis else TextDelta
        self._recipient = recipient[1].removeprefix("functions.") if recipient else ""
        self._in_header, self._fresh, self._searched = False, True, 0
        return True

    def _message(self, events: list[Event]) -> bool:
        end, mark = first_of(self._pending, _STOPS)
        certain = self._pending[: end if mark else -held_back(self._pending, _STOPS) or None]
        if self.inside:
            certain = certain.rstrip()
        self._tell(certain, events)
        if mark:
            self._resume(end, mark)
        else:
            self._pending = self._pending[len(certain) :]
        return bool(mark)

    def _call(self, events: list[Event]) -> bool:
        end, mark = first_of(self._pending[self._searched :], _STOPS)
        if not mark:
            self._searched = len(self._pending) - held_back(self._pending, _STOPS)
            return False
        end += self._searched
        if inside_string(self._pending[:end]):
            self._searched = end + len(mark)
        else:
            self._close(end, mark, events)
        return True

    def _close(self, end: int, mark: str, events: list[Event]) -> None:
        body = self._pending[:end]
        try:
            events.append(self._judged(body))
        except NotACall as error:
            events.append(MalformedToolCall(self._calls, body, str(error)))
        self._calls += 1
        self._resume(end, mark)

    def _judged(self, body: str) -> Event:
        if not self._takes_calls:
            return MalformedToolCall(self._calls, body, "there are no tools")
        return call_with(self._recipient, body.strip() or "{}", self._calls)

    def _resume(self, end: int, mark: str) -> None:
        """The next header: a mark that begins one is part of it."""
        keep = end if mark in (START, CHANNEL) else end + len(mark)
        self._pending, self._in_header, self._begun = self._pending[keep:], True, True
        self._recipient = ""

    def _tell(self, text: str, events: list[Event]) -> None:
        """Messages of one kind are set apart by an empty line."""
        if not text:
            return
        if self._fresh and self._kind in self._told:
            text = f"\n\n{text}"
        self._fresh = False
        self._told.add(self._kind)
        events.append(self._kind(text))
