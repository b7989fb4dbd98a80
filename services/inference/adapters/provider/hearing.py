"""Owns what is heard from an endpoint, whatever its dialect, and how an answer is put together.

Must not know SDKs or transport. Fragments of calls are joined; a call is told when it is whole,
under a place of its own: the endpoint's ids are its own business, ours are derived (core/answers).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from services.inference.core.answering import Answer, Piece
from services.inference.core.generation import FinishReason, GenerationResult, TokenUsage
from services.inference.core.scores import Scores
from services.inference.core.toolcalls import MalformedToolCall, ReasoningDelta, ToolCall
from shared.contracts.tokens import Logprob


@dataclass(frozen=True, slots=True)
class CallPart:
    """A fragment of a call. `id` and `name` come with the first one, as a rule."""

    place: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """One event of an answer. `thought` is reasoning, which is no part of its text."""

    text: str = ""
    thought: str = ""
    calls: tuple[CallPart, ...] = ()
    scores: tuple[Logprob, ...] = ()
    usage: TokenUsage | None = None
    finish: FinishReason | None = None
    stop_string: str | None = None


@dataclass(slots=True)
class _Open:
    """A call in the making."""

    place: int
    id: str
    name: str
    arguments: list[str] = field(default_factory=list)

    def continued_by(self, part: CallPart) -> bool:
        """Some servers put every call at place 0; then a new id begins a new one."""
        return part.place == self.place and (not part.id or part.id == self.id)


@dataclass(slots=True)
class Reading:
    """One answer while it comes. `most_calls` bounds its calls, None for any number."""

    most_calls: int | None = None
    finish: FinishReason | None = None
    stop_string: str | None = None
    usage: TokenUsage | None = None
    _text: list[str] = field(default_factory=list)
    _thoughts: list[str] = field(default_factory=list)
    _calls: list[ToolCall] = field(default_factory=list)
    _malformed: list[MalformedToolCall] = field(default_factory=list)
    _open: _Open | None = None
    _met: int = 0

    def told(self, heard: Heard, answer: Answer) -> Iterator[Piece]:
        """What became certain."""
        spoken = heard.text or heard.thought or heard.calls
        now = answer.heard() if spoken else answer.ticks()
        self.finish = heard.finish or self.finish
        self.stop_string = heard.stop_string or self.stop_string
        self.usage = heard.usage or self.usage
        if heard.scores:
            answer.scores = answer.scores or Scores()
            answer.scores.add(heard.scores)
        self._text.append(heard.text)
        self._thoughts.append(heard.thought)
        closed = [call for part in heard.calls if (call := self._joined(part)) is not None]
        yield from _thought(answer, heard.thought, now, over=bool(heard.text or heard.calls))
        yield from answer.coalescer.feed(heard.text, now, last=bool(closed))
        yield from closed

    def ended(self, answer: Answer, *, aborted: bool = False) -> Iterator[Piece]:
        """The last pieces; fills in `answer`."""
        last = None if aborted else self._closed()
        now = answer.ticks()
        yield from _thought(answer, "", now, over=True)
        yield from answer.coalescer.feed("", now, last=True)
        if last is not None:
            yield last
        answer.usage = self.usage or answer.usage
        answer.result = GenerationResult(
            content="".join(self._text),
            tool_calls=tuple(self._calls),
            malformed=tuple(self._malformed),
            finish_reason="aborted" if aborted else self._reason(),
            stop_string=self.stop_string,
            reasoning="".join(self._thoughts),
        )

    def _reason(self) -> FinishReason:
        """Servers differ on whether an answer with calls has stopped."""
        if self._calls and self.finish != "length":
            return "tool_calls"
        return "stop" if self.finish in (None, "tool_calls") else self.finish

    def _joined(self, part: CallPart) -> ToolCall | None:
        """Add a fragment; answers the call before it, where it begins another one."""
        if self._open is not None and self._open.continued_by(part):
            self._open.name = self._open.name or part.name
            self._open.arguments.append(part.arguments)
            return None
        before = self._closed()
        self._open = _Open(part.place, part.id, part.name, [part.arguments])
        return before

    def _closed(self) -> ToolCall | None:
        """The call in the making is whole; None where there is none, or it is none."""
        found, self._open = self._open, None
        if found is None or (self.most_calls is not None and self._met >= self.most_calls):
            return None
        place, self._met = self._met, self._met + 1
        written = "".join(found.arguments) or "{}"
        try:
            arguments = orjson.loads(written)
        except orjson.JSONDecodeError as error:
            self._malformed.append(MalformedToolCall(place, written, str(error)))
            return None
        if not isinstance(arguments, dict) or not found.name:
            reason = "a call has a name and an object of arguments"
            self._malformed.append(MalformedToolCall(place, written, reason))
            return None
        call = ToolCall(place, found.name, arguments, written)
        self._calls.append(call)
        return call


def _thought(answer: Answer, text: str, now: float, *, over: bool) -> Iterator[ReasoningDelta]:
    """More of the reasoning, in pieces of its own; what waits of it comes before what follows."""
    for _, piece in answer.thoughts.feed(text, now, last=over):
        yield ReasoningDelta(piece)
