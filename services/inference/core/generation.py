"""Owns the path of one generation: token ids, bytes, text, stop strings, tool calls, result.

Must not know engines, templates or transport. It is fed token ids as they come and is asked once,
at the end, for the result; what it tells along the way adds up to that result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from services.inference.core.text import StopStrings, Utf8Assembler
from services.inference.core.toolcalls import (
    Event,
    MalformedToolCall,
    TextDelta,
    ToolCall,
    ToolCallParser,
)

EngineFinish = Literal["stop", "length", "aborted"]
FinishReason = Literal["stop", "length", "tool_calls", "aborted"]


class TokenUsage(msgspec.Struct, frozen=True):
    """What a request cost. `cached` prompt tokens came from the prefix cache at first admission.

    `completion` counts every token the model produced, a stop token included.
    """

    prompt: int
    completion: int
    cached: int


class GenerationResult(msgspec.Struct, frozen=True):
    """What the model said, as a whole. Ids of tool calls are the caller's to derive."""

    content: str
    tool_calls: tuple[ToolCall, ...]
    malformed: tuple[MalformedToolCall, ...]
    finish_reason: FinishReason
    stop_string: str | None = None


class Generation:
    """One answer in the making."""

    def __init__(
        self,
        decode: Callable[[int], bytes],
        stops: Sequence[str] = (),
        parse_tools: bool = True,
        most_calls: int | None = None,
    ) -> None:
        self._decode = decode
        self._utf8 = Utf8Assembler()
        self._stops = StopStrings(stops)
        self._parser = ToolCallParser() if parse_tools else None
        self._most_calls = most_calls
        self._content: list[str] = []
        self._calls: list[ToolCall] = []
        self._malformed: list[MalformedToolCall] = []

    @property
    def stopped(self) -> bool:
        """A stop string or the last call came: more tokens change nothing, the engine may abort."""
        return self._stops.hit is not None or self._full

    @property
    def _full(self) -> bool:
        return self._most_calls is not None and len(self._calls) >= self._most_calls

    def feed(self, token_ids: Iterable[int]) -> list[Event]:
        """Take the next tokens and return what became certain."""
        if self.stopped:
            return []
        piece = b"".join(map(self._decode, token_ids))
        return self._read(self._stops.feed(self._utf8.feed(piece)))

    def finish(self, reason: EngineFinish) -> tuple[list[Event], GenerationResult]:
        """Close the stream: the last events, and the result with the reason the reader sees."""
        tail = self._stops.feed(self._utf8.finish()) + self._stops.finish()
        events = self._read(tail)
        if self._parser is not None:
            events += self._keep(self._parser.finish())
        result = GenerationResult(
            content="".join(self._content),
            tool_calls=tuple(self._calls),
            malformed=tuple(self._malformed),
            finish_reason=self._reason(reason),
            stop_string=self._stops.hit,
        )
        return events, result

    def _read(self, text: str) -> list[Event]:
        if not text:
            return []
        if self._parser is None:
            return self._keep([TextDelta(text)])
        return self._keep(self._parser.feed(text))

    def _keep(self, events: list[Event]) -> list[Event]:
        kept: list[Event] = []
        for event in events:
            if self._full:
                break
            kept.append(event)
            if isinstance(event, TextDelta):
                self._content.append(event.text)
            elif isinstance(event, ToolCall):
                self._calls.append(event)
            else:
                self._malformed.append(event)
        return kept

    def _reason(self, engine: EngineFinish) -> FinishReason:
        if engine == "aborted" and self.stopped:
            engine = "stop"  # the abort was ours
        return "tool_calls" if engine == "stop" and self._calls else engine
