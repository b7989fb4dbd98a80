"""Owns the two stages of reading an answer: what is said in which channel, and calls in the text.

Stop strings belong between the two: they end the answer, never the reasoning before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from services.inference.core.toolcalls.events import Event, Parser
from services.inference.core.toolcalls.tagged import TaggedCalls
from services.inference.core.toolcalls.thinking import Plain


class Channels(Protocol):
    """A `Parser` of all that a model writes, which sets reasoning apart."""

    @property
    def inside(self) -> bool:
        """Whether what comes next is taken for reasoning."""
        ...

    @property
    def apart(self) -> bool:
        """Whether what came last was no part of the answer: reasoning, or markup around it."""
        ...

    def feed(self, text: str) -> list[Event]:
        """See `Parser`."""
        ...

    def finish(self) -> list[Event]:
        """See `Parser`."""
        ...


@dataclass(slots=True)
class Reader:
    """How one answer is read. Without `calls` its text is not looked through for any."""

    channels: Channels = field(default_factory=Plain)
    calls: Parser | None = field(default_factory=TaggedCalls)
