"""Owns the markups in which an answer is a call because of how it begins, as with Llama.

`{"name": ..., "parameters": {...}}` or `[f(a=1), g()]` at the start of the answer is a call, and
so is what stands behind a tag (`<|python_tag|>`). Nothing closes such a call but its own brackets.
A bare answer that only looked like one, say a JSON value, is text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from services.inference.core.toolcalls.events import Event, MalformedToolCall, TextDelta
from services.inference.core.toolcalls.feeding import BesideCalls
from services.inference.core.toolcalls.json_calls import NotACall, ValueEnd

Begins = Callable[[str], bool | None]


@dataclass(frozen=True, slots=True)
class Beginnings:
    """A markup: the tags that may stand before calls, and what may stand behind one.

    `begins` tells of the first characters of an answer whether they begin calls, None while both
    is possible. `read` makes events of a whole bracketed value, or None where it is text after all.
    """

    tags: tuple[str, ...]
    after: tuple[str, ...]
    bracket: str
    quotes: str
    begins: Begins
    read: Callable[[str, ValueEnd, int], list[Event] | None]


class _At(Enum):
    START = "it is open whether calls or text come"
    TEXT = "text, up to a tag"
    TAGGED = "behind a tag"
    CALL = "inside of brackets"


class LeadingCalls(BesideCalls):
    """`Parser` of a markup without closing tags."""

    def __init__(self, form: Beginnings) -> None:
        self._form = form
        super().__init__()
        self._lead = ""
        self._at = _At.START
        self._tagged = False
        self._end = ValueEnd()

    def finish(self) -> list[Event]:
        """See `Parser`."""
        rest = self._rest()
        if not rest.strip() and self._at is _At.TAGGED:
            return []
        if self._at in (_At.TAGGED, _At.CALL):
            return [MalformedToolCall(self._calls, rest, "unterminated: its brackets are open")]
        return [TextDelta(rest)] if rest else []

    def _advance(self, events: list[Event]) -> bool:
        match self._at:
            case _At.START:
                return self._start()
            case _At.TEXT:
                return self._text(events)
            case _At.TAGGED:
                return self._behind_tag()
            case _At.CALL:
                return self._call(events)

    def _start(self) -> bool:
        """Whether calls begin here: at the start of the answer, or behind a call."""
        rest = self._pending.lstrip()
        words = self._form.tags + (self._form.after if self._after_call else ())
        if word := next((word for word in words if rest.startswith(word)), ""):
            self._pending = rest[len(word) :]
            if word in self._form.tags:
                self._at, self._tagged = _At.TAGGED, True
            return True
        if not rest or any(word.startswith(rest) for word in words):
            return False
        begins = self._form.begins(rest)
        if begins is None:
            return False
        if begins:
            self._open(rest, tagged=False)
        else:
            self._at = _At.TEXT
            self._pending = rest if self._after_call else self._pending
        return True

    def _open(self, rest: str, *, tagged: bool) -> None:
        self._lead = self._pending[: len(self._pending) - len(rest)]
        self._pending, self._at, self._tagged = rest, _At.CALL, tagged
        self._end = ValueEnd(self._form.quotes)

    def _text(self, events: list[Event]) -> bool:
        if not self._text_until(self._form.tags, events):
            return False
        self._at = _At.TAGGED
        return True

    def _behind_tag(self) -> bool:
        """Brackets make a call; anything else is code for a tool that nobody offered."""
        rest = self._pending.lstrip()
        if not rest.startswith(self._form.bracket):
            return False
        self._open(rest, tagged=True)
        return True

    def _call(self, events: list[Event]) -> bool:
        end = self._end.find(self._pending)
        if end is None:
            return False
        body, rest = self._pending[:end], self._pending[end:]
        try:
            found = self._form.read(body, self._end, self._calls)
        except NotACall as error:
            found = [MalformedToolCall(self._calls, body, str(error))]
        if found is None and self._tagged:
            found = [MalformedToolCall(self._calls, body, "there are no arguments")]
        if found is None:
            self._pending = ("" if self._after_call else self._lead) + body + rest
            self._at = _At.TEXT
            return True
        events += found
        self._calls += len(found)
        self._pending, self._at, self._after_call = rest, _At.START, True
        return True
