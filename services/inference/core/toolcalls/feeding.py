"""Owns the loop that every parser turns: text is kept until it is certain what it is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from services.inference.core.text import held_back
from services.inference.core.toolcalls.events import Event, TextDelta


class Feeding(ABC):
    """Text that has come and is not told yet; a format says how it goes on from there."""

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, text: str) -> list[Event]:
        """See `Parser`."""
        self._pending += text
        events: list[Event] = []
        self._go_on(events)
        return events

    def _go_on(self, events: list[Event]) -> None:
        while self._advance(events):
            pass

    @abstractmethod
    def _advance(self, events: list[Event]) -> bool:
        """Take what is certain off the pending text; False where more has to come first."""


class BesideCalls(Feeding):
    """Text in which calls stand. White space beside a call belongs to the markup."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0
        self._after_call = False

    def _text_until(self, marks: tuple[str, ...], events: list[Event]) -> str:
        """Tell the text before the first of the marks and take it off, with the mark.

        Answers the mark; empty where none has come yet, what may be the beginning of one is kept.
        """
        start, mark = first_of(self._pending, marks)
        if mark:
            self._say(self._pending[:start].rstrip(), events)
            self._pending = self._pending[start + len(mark) :]
            return mark
        cut = len(self._pending) - held_back(self._pending, marks)
        certain = self._pending[:cut].rstrip()
        self._say(certain, events)
        self._pending = self._pending[len(certain) :]
        return ""

    def _say(self, text: str, events: list[Event]) -> None:
        if text:
            self._after_call = False
            events.append(TextDelta(text))

    def _rest(self) -> str:
        """All that is left, at the end."""
        rest, self._pending = self._pending, ""
        return rest.lstrip() if self._after_call else rest


def first_of(text: str, words: tuple[str, ...]) -> tuple[int, str]:
    """The place of the first of `words` in the text, and which one; `(-1, "")` where there is none.

    Of two that begin at the same place the longer one is meant.
    """
    found = [(at, -len(word), word) for word in words if (at := text.find(word)) >= 0]
    at, _, word = min(found, default=(-1, 0, ""))
    return at, word
