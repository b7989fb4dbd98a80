"""Owns the parting of reasoning from the answer: `<think>...</think>` and its like.

Reasoning stands before the answer, once. What is in it is never read as a call. White space
around the tags belongs to them (templates write it) and is dropped.
"""

from __future__ import annotations

from enum import Enum

from services.inference.core.text import held_back
from services.inference.core.toolcalls.events import Event, ReasoningDelta, TextDelta
from services.inference.core.toolcalls.feeding import Feeding

THINK = ("<think>", "</think>")
MISTRAL_THINK = ("[THINK]", "[/THINK]")


class _At(Enum):
    START = "it is open whether the model thinks first"
    OPENED = "behind the opening tag"
    INSIDE = "reasoning"
    CLOSED = "behind the closing tag"
    ANSWER = "the answer"


class Thinking(Feeding):
    """`Parser` that knows reasoning and text. With `opened` the answer begins inside of it."""

    def __init__(self, tags: tuple[str, str] = THINK, *, opened: bool = False) -> None:
        self._opening, self._closing = tags
        self._at = _At.START
        self._opened = opened
        super().__init__()

    @property
    def inside(self) -> bool:
        """Whether what comes next is taken for reasoning."""
        return self._at in (_At.OPENED, _At.INSIDE) or (self._at is _At.START and self._opened)

    @property
    def apart(self) -> bool:
        """Whether what came last was no part of the answer."""
        return self.inside or self._at is _At.CLOSED

    def finish(self) -> list[Event]:
        """See `Parser`."""
        rest, self._pending = self._pending, ""
        if self.inside:
            rest = rest.strip() if self._at is not _At.INSIDE else rest.rstrip()
            return [ReasoningDelta(rest)] if rest else []
        if self._at is _At.CLOSED:
            rest = rest.lstrip()
        return [TextDelta(rest)] if rest else []

    def _advance(self, events: list[Event]) -> bool:
        match self._at:
            case _At.START:
                return self._start()
            case _At.OPENED | _At.CLOSED:
                return self._trimmed()
            case _At.INSIDE:
                return self._inside(events)
            case _At.ANSWER:
                if self._pending:
                    events.append(TextDelta(self._pending))
                self._pending = ""
                return False

    def _start(self) -> bool:
        rest = self._pending.lstrip()
        if rest.startswith(self._opening):  # a template that opened it may be followed by a second
            self._pending, self._at = rest[len(self._opening) :], _At.OPENED
        elif self._opening.startswith(rest):
            return False
        else:
            self._at = _At.OPENED if self._opened else _At.ANSWER
        return True

    def _trimmed(self) -> bool:
        self._pending = self._pending.lstrip()
        if not self._pending:
            return False
        self._at = _At.INSIDE if self._at is _At.OPENED else _At.ANSWER
        return True

    def _inside(self, events: list[Event]) -> bool:
        end = self._pending.find(self._closing)
        if end >= 0:
            certain = self._pending[:end].rstrip()
            self._pending, self._at = self._pending[end + len(self._closing) :], _At.CLOSED
        else:
            held = held_back(self._pending, (self._closing,))
            certain = self._pending[: len(self._pending) - held].rstrip()
            self._pending = self._pending[len(certain) :]
        if certain:
            events.append(ReasoningDelta(certain))
        return end >= 0


class Plain:
    """`Parser` of answers without reasoning: all of it is text."""

    inside = apart = False

    def feed(self, text: str) -> list[Event]:
        """See `Parser`."""
        return [TextDelta(text)] if text else []

    def finish(self) -> list[Event]:
        """See `Parser`."""
        return []
