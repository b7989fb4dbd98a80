"""Owns what a reader of a model's text tells: text, reasoning, calls, what is no call.

Must not know formats. Nothing that a model writes makes a reader raise, and its events, with
neighbouring text joined, are the same for every way of cutting the same text into pieces.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec


class TextDelta(msgspec.Struct, frozen=True, tag="text"):
    """More text for the reader."""

    text: str


class ReasoningDelta(msgspec.Struct, frozen=True, tag="reasoning"):
    """More of what the model thinks before it answers: no part of the answer."""

    text: str


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call"):
    """One complete call; `raw_arguments` is a JSON object, where the model wrote JSON as it did."""

    index: int
    name: str
    arguments: dict[str, Any]
    raw_arguments: str


class MalformedToolCall(msgspec.Struct, frozen=True, tag="malformed_tool_call"):
    """What stood where a call belongs and is none; `text` is what was written there."""

    index: int
    text: str
    reason: str


Event = TextDelta | ReasoningDelta | ToolCall | MalformedToolCall


class Parser(Protocol):
    """Feeds on text, gives events.

    A call is one event, at its end: half an argument object is of use to nobody who runs tools.
    White space beside markup belongs to it (templates write it) and is dropped.
    """

    def feed(self, text: str) -> list[Event]:
        """Return what is certain now."""
        ...

    def finish(self) -> list[Event]:
        """Return the rest: a held-back beginning is text, an open call is judged as it stands."""
        ...
