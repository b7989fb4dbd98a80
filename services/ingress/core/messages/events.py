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
from services.ingress.core.messages.thinking import UNSIGNED, Shown, thinking_block
from services.ingress.core.responses.fold import Place, Response, TaskFold
from shared.contracts.facts import Done, Finish, Inferred, ToolCall, Usage
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
    thoughts: Shown = "hidden"
    """What is shown of what the model thinks."""

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

    def thought(self, text: str) -> list[Json]:
        """What the model thought, as the client wants to see it."""
        return [thinking_block(text, self.thoughts)] if text and self.thoughts != "hidden" else []

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
    blocks = envelope.thought(result.reasoning)
    blocks += [text_block(result.content)] if result.content else []
    blocks += [tool_use_block(call) for call in result.tool_calls]
    return envelope.message(blocks, ending(result.finish, result.stop_string), result.usage)


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How an agent's turn ended: what it said last, and the client's tools that it calls."""

    said: str
    calls: tuple[ToolCall, ...]
    ending: Ending
    usage: Usage
    thought: str = ""
    """Before it said that."""


class AgentTurn:
    """Finds the end of an agent's turn in the events of its task: the end of one of its responses.

    A turn that goes on with results is charged for its own model calls alone; the first one of a
    task, at the task's end, for the whole task.
    """

    def __init__(self, place: Place) -> None:
        self._fold, self._number = TaskFold(place.task), place.number

    @property
    def speaking(self) -> bool:
        """Whether what the model says now belongs to this turn."""
        part = self._fold.last
        return part is not None and part.open and part.place.number == self._number

    def of(self, event: Event) -> TurnEnd | None:
        """The end, if this fact is it.

        Raises:
            MillraceError: why the task has failed, or `task_cancelled`.
        """
        for change in self._fold.event(event):
            if change.kind == "ended" and change.response.place.number == self._number:
                return self._end(change.response, event.data)
        return None

    def _end(self, part: Response, fact: object) -> TurnEnd:
        last = part.turns[-1].said if part.turns else None
        thought = "" if last is None else last.reasoning
        if isinstance(fact, Done):
            usage = part.usage if self._number else fact.totals.usage
            return TurnEnd(task_output(fact), (), _of_task(last), usage, thought)
        said = "" if last is None else last.content
        return TurnEnd(said, part.waiting, Ending("tool_use"), part.usage, thought)


def task_message(envelope: Envelope, end: TurnEnd) -> Json:
    """The whole answer of an agent: what it said last, and the calls that are the client's.

    Raises:
        Broken: `malformed_tool_call`.
    """
    blocks = envelope.thought(end.thought)
    blocks += [text_block(end.said)] if end.said else []
    blocks += [tool_use_block(call) for call in end.calls]
    return envelope.message(blocks, end.ending, end.usage)


def _of_task(last: Inferred | None) -> Ending:
    """A task's answer ended as its last model call did; its own tools are not the client's."""
    if last is None or last.finish not in ("stop", "length"):
        return Ending("end_turn")
    return ending(last.finish, last.stop_string)


class _Blocks:
    """The blocks of a stream: numbers them, opens and closes them."""

    def __init__(self, thoughts: Shown) -> None:
        self._thoughts = thoughts
        self._index = -1
        self._open = ""
        """The kind of the block that is open."""

    def text(self, text: str) -> Iterator[Json]:
        """More text, in the block that is open or in a new one."""
        if self._open != "text":
            yield from self.close()
            yield from self._start(text_block(""))
        yield self._delta({"type": "text_delta", "text": text})

    def thought(self, text: str) -> Iterator[Json]:
        """More of what the model thinks, as far as the client wants to see it."""
        if self._thoughts == "hidden":
            return
        if self._open != "thinking":
            yield from self.close()
            yield from self._start(thinking_block("", "shown") | {"signature": ""})
        if self._thoughts == "shown":
            yield self._delta({"type": "thinking_delta", "thinking": text})

    def tool_use(self, call: ToolCall) -> Iterator[Json]:
        """A block of its own for a call; its input comes as JSON text."""
        block = tool_use_block(call)
        yield from self.close()
        yield from self._start(block | {"input": {}})
        yield self._delta({"type": "input_json_delta", "partial_json": call.arguments or "{}"})
        yield from self.close()

    def close(self) -> Iterator[Json]:
        """The end of the block that is open, where one is."""
        if self._open == "thinking":
            yield self._delta({"type": "signature_delta", "signature": UNSIGNED})
        if self._open:
            self._open = ""
            yield {"type": "content_block_stop", "index": self._index}

    def _start(self, block: Json) -> Iterator[Json]:
        self._index += 1
        self._open = str(block["type"])
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
        self._blocks = _Blocks(envelope.thoughts)
        self._said = self._thought = 0

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
        if event.reasoning:
            self._thought += len(event.reasoning)
            yield from self._blocks.thought(event.reasoning)
        if event.text:
            self._said += len(event.text)
            yield from self._blocks.text(event.text)
        if (result := event.done) is not None:
            end = ending(result.finish, result.stop_string)
            if thought := result.reasoning[self._thought :]:
                yield from self._blocks.thought(thought)
            if rest := result.content[self._said :]:
                yield from self._blocks.text(rest)
            yield from self._blocks.close()
            for call in result.tool_calls:
                yield from self._blocks.tool_use(call)
            yield from _end(end, result.usage)


class TaskMessageEvents:
    """The stream of an agent's turn: a block of text for each model call that says something,
    before it one of what it thought, for clients that ask for it.

    The agent's tools run on our side, so their calls are not shown: a client would try to run
    them. The last blocks are the whole answer's. A retried model call repeats itself; what was
    said already is said once. Where it says something else it gets a new block, because nothing
    can be taken back.
    """

    def __init__(self, envelope: Envelope, turn: AgentTurn) -> None:
        self._envelope, self._turn = envelope, turn
        self._blocks = _Blocks(envelope.thoughts)
        self.ended = False
        self._speaker = (-1, 1)
        """Step and attempt that speak at present."""
        self._sent = self._heard = ""
        """What the open block holds, and what the present attempt has said so far."""
        self._pondered = self._thought = ""
        """Likewise of what it thinks."""

    def start(self) -> Json:
        """The first event."""
        return self._envelope.start()

    def of(self, event: Event) -> Iterator[Json]:
        """What one event of the task becomes; `ended` is set behind the turn's last one.

        Raises:
            MillraceError: why the task has failed, or `task_cancelled`.
        """
        if isinstance(event.data, TokenDelta):
            if self._turn.speaking:
                yield from self._hear(event.data)
            return
        if isinstance(event.data, Inferred) and self._turn.speaking:
            yield from self._turn_to(event.data.step, event.data.attempt)
        if (end := self._turn.of(event)) is not None:
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
        if delta.reasoning:
            yield from self._think(delta.reasoning)
            return
        self._heard += delta.text
        if not self._sent.startswith(self._heard):  # else a second attempt repeats the first
            yield from self._say(self._heard)

    def _turn_to(self, step: int, attempt: int) -> Iterator[Json]:
        before, self._speaker = self._speaker, (step, attempt)
        if step != before[0]:
            yield from self._blocks.close()
            self._sent = self._heard = self._pondered = self._thought = ""
        elif attempt != before[1]:
            self._heard = self._thought = ""

    def _think(self, text: str) -> Iterator[Json]:
        """What is thought again is told once; what differs gets a block of its own."""
        self._thought += text
        if self._pondered.startswith(self._thought):
            return
        if self._thought.startswith(self._pondered):
            text = self._thought[len(self._pondered) :]
        else:
            yield from self._blocks.close()
            text = self._thought
        self._pondered = self._thought
        yield from self._blocks.thought(text)

    def _say(self, text: str) -> Iterator[Json]:
        """Let the last block hold `text`: by its rest, or by a new block where it differs."""
        if not text.startswith(self._sent):
            yield from self._blocks.close()
            self._sent = ""
        if rest := text[len(self._sent) :]:
            yield from self._blocks.text(rest)
        self._sent = text
