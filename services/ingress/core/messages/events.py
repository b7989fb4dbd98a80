"""Anthropic's messages and stream events, built from the events of a completion or of a task.

The order of a stream: message_start; for each block content_block_start, its deltas and
content_block_stop, a ping behind the first start; message_delta with the stop reason and the whole
usage; message_stop. The blocks of a stream add up to those of the whole answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import orjson

from services.ingress.core.chat.chunks import task_output
from shared.contracts.facts import Done, Finish, Inferred, Parked, ToolCall, Usage
from shared.contracts.log import Event
from shared.contracts.tokens import DirectEvent, DirectResult, TokenDelta
from shared.errors import Broken, Transient, error_of

Json = dict[str, object]
PING: Json = {"type": "ping"}
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all objects of one message share. `extra` is ours: the task and its session."""

    id: str
    model: str
    extra: Json = field(default_factory=dict)

    def message(self, content: Sequence[Json], ending: Ending | None, usage: Usage) -> Json:
        """A message; without an ending it has only begun."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": list(content),
            **(ending or Ending(None)).as_json(),
            "usage": usage_json(usage),
        } | self.extra

    def start(self) -> Json:
        """The first event. What the prompt has cost is known at the end, so its usage is 0."""
        return {"type": "message_start", "message": self.message((), None, Usage())}


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a message ended; `sequence` is the stop sequence that ended it."""

    reason: str | None
    sequence: str | None = None

    def as_json(self) -> Json:
        """Anthropic's two members."""
        return {"stop_reason": self.reason, "stop_sequence": self.sequence}


def ending(finish: Finish, stop_string: str | None) -> Ending:
    """Anthropic's words for the end of a generation.

    Raises:
        Transient: `aborted`: something stopped it, so this is no answer.
    """
    if finish not in _REASONS:
        raise Transient("aborted", "the generation was stopped before it was complete")
    if finish == "stop" and stop_string is not None:
        return Ending("stop_sequence", stop_string)
    return Ending(_REASONS[finish])


def usage_json(usage: Usage) -> Json:
    """Anthropic's usage object, whose input tokens leave out those that came from the cache."""
    return {
        "input_tokens": usage.input - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
    }


def text_block(text: str) -> Json:
    """A block of text."""
    return {"type": "text", "text": text}


def tool_use_block(call: ToolCall) -> Json:
    """A call of a client's tool.

    Raises:
        Broken: `malformed_tool_call`: a worker let arguments through that are no JSON object.
    """
    try:
        given = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise Broken("malformed_tool_call", f"the arguments of {call.name!r} are no JSON object")
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given}


def direct_message(envelope: Envelope, result: DirectResult) -> Json:
    """The whole answer of a stateless request.

    Raises:
        Transient: `aborted`.
        Broken: `malformed_tool_call`.
    """
    blocks = [text_block(result.content)] if result.content else []
    blocks += [tool_use_block(call) for call in result.tool_calls]
    return envelope.message(blocks, ending(result.finish, result.stop_string), result.usage)


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How an agent's turn ended: what it said last, and the client's tools that it calls."""

    said: str
    calls: tuple[ToolCall, ...]
    ending: Ending
    usage: Usage


class AgentTurn:
    """Finds the end of an agent's turn in the facts of its task.

    It is the task's end, or the moment at which all calls of the client's tools in an answer are
    parked for it. `own` are the names of those tools. A turn that goes on with results is charged
    for its own model calls alone; the first one of a task, at the task's end, for the whole task.
    """

    def __init__(self, own: frozenset[str] = frozenset(), *, goes_on: bool = False) -> None:
        self._own, self._goes_on = own, goes_on
        self._last: Inferred | None = None
        self._usage = Usage()
        self._open: dict[int, ToolCall] = {}
        """Step -> call, of the client's calls that are not parked yet."""

    def of(self, fact: object) -> TurnEnd | None:
        """The end, if this fact is it.

        Raises:
            MillraceError: why the task has failed, or `task_cancelled`.
        """
        match fact:
            case Inferred() if self._last is None or fact.step > self._last.step:
                self._last, self._usage = fact, self._usage + fact.usage
                self._open = dict(self._clients(fact))
            case Parked(step=step, reason="client_tool") if self._open.pop(step, None):
                return None if self._open or self._last is None else self._asked(self._last)
            case Done() as done:
                usage = self._usage if self._goes_on else done.totals.usage
                return TurnEnd(task_output(done), (), _of_task(self._last), usage)
        return None

    def _clients(self, said: Inferred) -> Iterator[tuple[int, ToolCall]]:
        """The steps of an answer's calls follow its own."""
        for step, call in enumerate(said.tool_calls, said.step + 1):
            if call.name in self._own:
                yield step, call

    def _asked(self, said: Inferred) -> TurnEnd:
        calls = tuple(call for _, call in self._clients(said))
        return TurnEnd(said.content, calls, Ending("tool_use"), self._usage)


def task_message(envelope: Envelope, end: TurnEnd) -> Json:
    """The whole answer of an agent: what it said last, and the calls that are the client's.

    Raises:
        Broken: `malformed_tool_call`.
    """
    blocks = [text_block(end.said)] if end.said else []
    blocks += [tool_use_block(call) for call in end.calls]
    return envelope.message(blocks, end.ending, end.usage)


def _of_task(last: Inferred | None) -> Ending:
    """A task's answer ended as its last model call did; its own tools are not the client's."""
    if last is None or last.finish not in ("stop", "length"):
        return Ending("end_turn")
    return ending(last.finish, last.stop_string)


class _Blocks:
    """The blocks of a stream: numbers them, opens and closes them."""

    def __init__(self) -> None:
        self._index = -1
        self._open = False

    def text(self, text: str) -> Iterator[Json]:
        """More text, in the block that is open or in a new one."""
        if not self._open:
            yield from self._start(text_block(""))
        yield self._delta({"type": "text_delta", "text": text})

    def tool_use(self, call: ToolCall) -> Iterator[Json]:
        """A block of its own for a call; its input comes as JSON text."""
        block = tool_use_block(call)
        yield from self.close()
        yield from self._start(block | {"input": {}})
        yield self._delta({"type": "input_json_delta", "partial_json": call.arguments or "{}"})
        yield from self.close()

    def close(self) -> Iterator[Json]:
        """The end of the block that is open, where one is."""
        if self._open:
            self._open = False
            yield {"type": "content_block_stop", "index": self._index}

    def _start(self, block: Json) -> Iterator[Json]:
        self._index += 1
        self._open = True
        yield {"type": "content_block_start", "index": self._index, "content_block": block}
        if self._index == 0:
            yield PING

    def _delta(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


def _end(end: Ending, usage: Usage) -> Iterator[Json]:
    yield {"type": "message_delta", "delta": end.as_json(), "usage": usage_json(usage)}
    yield {"type": "message_stop"}


class DirectMessageEvents:
    """The stream of a stateless completion."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._blocks = _Blocks()
        self._said = 0

    def start(self) -> Json:
        """The first event."""
        return self._envelope.start()

    def of(self, event: DirectEvent) -> Iterator[Json]:
        """What one event of the completion becomes.

        Raises:
            MillraceError: the failure that the event carries, and as `direct_message`.
        """
        if event.error is not None:
            raise error_of(event.error)
        if event.text:
            self._said += len(event.text)
            yield from self._blocks.text(event.text)
        if (result := event.done) is not None:
            end = ending(result.finish, result.stop_string)
            if rest := result.content[self._said :]:
                yield from self._blocks.text(rest)
            yield from self._blocks.close()
            for call in result.tool_calls:
                yield from self._blocks.tool_use(call)
            yield from _end(end, result.usage)


class TaskMessageEvents:
    """The stream of an agent's turn: a block of text for each model call that says something.

    The agent's tools run on our side, so their calls are not shown: a client would try to run
    them. The last blocks are the whole answer's. A retried model call repeats itself; what was
    said already is said once. Where it says something else it gets a new block, because nothing
    can be taken back.
    """

    def __init__(self, envelope: Envelope, turn: AgentTurn) -> None:
        self._envelope, self._turn = envelope, turn
        self._blocks = _Blocks()
        self.ended = False
        self._speaker = (-1, 1)
        """Step and attempt that speak at present."""
        self._sent = self._heard = ""
        """What the open block holds, and what the present attempt has said so far."""

    def start(self) -> Json:
        """The first event."""
        return self._envelope.start()

    def of(self, event: Event) -> Iterator[Json]:
        """What one event of the task becomes; `ended` is set behind the turn's last one.

        Raises:
            MillraceError: why the task has failed, or `task_cancelled`.
        """
        match event.data:
            case TokenDelta() as delta:
                yield from self._hear(delta)
            case Inferred() as inferred:
                yield from self._turn_to(inferred.step, inferred.attempt)
        if (end := self._turn.of(event.data)) is not None:
            self.ended = True
            yield from self._end(end)

    def _end(self, end: TurnEnd) -> Iterator[Json]:
        if end.said.strip() != self._sent.strip():  # deltas were lost, or there were none
            yield from self._say(end.said)
        yield from self._blocks.close()
        for call in end.calls:
            yield from self._blocks.tool_use(call)
        yield from _end(end.ending, end.usage)

    def _hear(self, delta: TokenDelta) -> Iterator[Json]:
        yield from self._turn_to(delta.step, delta.attempt)
        self._heard += delta.text
        if not self._sent.startswith(self._heard):  # else a second attempt repeats the first
            yield from self._say(self._heard)

    def _turn_to(self, step: int, attempt: int) -> Iterator[Json]:
        before, self._speaker = self._speaker, (step, attempt)
        if step != before[0]:
            yield from self._blocks.close()
            self._sent = self._heard = ""
        elif attempt != before[1]:
            self._heard = ""

    def _say(self, text: str) -> Iterator[Json]:
        """Let the last block hold `text`: by its rest, or by a new block where it differs."""
        if not text.startswith(self._sent):
            yield from self._blocks.close()
            self._sent = ""
        if rest := text[len(self._sent) :]:
            yield from self._blocks.text(rest)
        self._sent = text
