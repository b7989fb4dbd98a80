"""Owns the loop that every parser turns: text is kept until it is certain what it is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from services.inference.core.toolcalls.events import Event


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
