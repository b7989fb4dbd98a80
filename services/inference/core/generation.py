"""Owns the path of one generation: token ids, bytes, text, reasoning, stop strings, calls,
result.

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
    Reader,
    ReasoningDelta,
    TextDelta,
    ToolCall,
)

EngineFinish = Literal["stop", "length", "aborted"]
FinishReason = Literal["stop", "length", "tool_calls", "aborted"]


class TokenUsage(msgspec.Struct, frozen=True):
    """What a request cost. `cached` prompt tokens came from the prefix cache at first admission.

    `completion` counts every token the model produced, a stop token included; `reasoning` is the
    part of it that was spent on thinking, from the end of the opening tag to the closing one.
    """

    prompt: int
    completion: int
    cached: int
    reasoning: int = 0


class GenerationResult(msgspec.Struct, frozen=True):
    """What the model said, as a whole. Ids of tool calls are the caller's to derive."""

    content: str
    tool_calls: tuple[ToolCall, ...]
    malformed: tuple[MalformedToolCall, ...]
    finish_reason: FinishReason
    stop_string: str | None = None
    reasoning: str = ""


class Generation:
    """One answer in the making."""

    def __init__(
        self,
        decode: Callable[[int], bytes],
        stops: Sequence[str] = (),
        reader: Reader | None = None,
        most_calls: int | None = None,
    ) -> None:
        """Without a `reader` of its own, calls are read as Hermes' models write them."""
        self._decode = decode
        self._utf8 = Utf8Assembler()
        self._stops = StopStrings(stops)
        self._reader = reader or Reader()
        self._most_calls = most_calls
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[ToolCall] = []
        self._malformed: list[MalformedToolCall] = []
        self.reasoning_tokens = 0
        self.tokens_apart = 0
        """Tokens so far that are certainly no part of the answer's text: reasoning and its tags."""

    @property
    def stopped(self) -> bool:
        """A stop string or the last call came: more tokens change nothing, the engine may abort."""
        return self._stops.hit is not None or self._full

    @property
    def _full(self) -> bool:
        return self._most_calls is not None and len(self._calls) >= self._most_calls

    def feed(self, token_ids: Iterable[int]) -> list[Event]:
        """Take the next tokens and return what became certain."""
        events: list[Event] = []
        for token in token_ids:
            if self.stopped:
                break
            thought = self._reader.channels.inside
            events += self._read(self._reader.channels.feed(self._utf8.feed(self._decode(token))))
            self.reasoning_tokens += thought or self._reader.channels.inside
            self.tokens_apart += self._reader.channels.apart
        return events

    def finish(self, reason: EngineFinish) -> tuple[list[Event], GenerationResult]:
        """Close the stream: the last events, and the result with the reason the reader sees."""
        channels = self._reader.channels
        events = self._read(channels.feed(self._utf8.finish()) + channels.finish())
        events += self._answer(self._stops.finish())
        if self._reader.calls is not None:
            events += self._keep(self._reader.calls.finish())
        result = GenerationResult(
            content="".join(self._content),
            tool_calls=tuple(self._calls),
            malformed=tuple(self._malformed),
            finish_reason=self._reason(reason),
            stop_string=self._stops.hit,
            reasoning="".join(self._reasoning),
        )
        return events, result

    def _read(self, heard: Iterable[Event]) -> list[Event]:
        events: list[Event] = []
        for event in heard:
            if isinstance(event, TextDelta):
                events += self._answer(self._stops.feed(event.text))
            elif self._stops.hit is None:
                events += self._keep([event])
        return events

    def _answer(self, text: str) -> list[Event]:
        if not text:
            return []
        if self._reader.calls is None:
            return self._keep([TextDelta(text)])
        return self._keep(self._reader.calls.feed(text))

    def _keep(self, events: list[Event]) -> list[Event]:
        kept: list[Event] = []
        for event in events:
            if self._full:
                break
            kept.append(event)
            match event:
                case TextDelta(text=text):
                    self._content.append(text)
                case ReasoningDelta(text=text):
                    self._reasoning.append(text)
                case ToolCall():
                    self._calls.append(event)
                case MalformedToolCall():
                    self._malformed.append(event)
        return kept

    def _reason(self, engine: EngineFinish) -> FinishReason:
        if engine == "aborted" and self.stopped:
            engine = "stop"  # the abort was ours
        return "tool_calls" if engine == "stop" and self._calls else engine
