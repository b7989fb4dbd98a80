"""The typed events of a response, with numbers that are places in the log, not counts.

    0 created, 1 queued, 2 in_progress; then of the n-th answer of the model, from n * STRIDE:
        attempt a:  a * ATTEMPT + 0 item added, + 1 part added, + 2 + i the i-th delta; where the
                    model thought first, that item's end and the message's beginning stand between
                    the deltas of the two, and what follows moves by that
        the end of the text and the calls from SAID, results of our tools from RESULTS
    and the end of the response at END of the turn that would come next: behind what a turn that was
    cut short has said, which is in no fact

A number depends on the facts and on the cut of the text alone, so the events of a log have the
same numbers while they happen and weeks later, at any replica. What a worker said before it was
lost has numbers of its own (no two executions share an attempt): the next attempt begins its item
and its part anew, behind it, and `response.output_text.done` says what counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.ingress.core.responses.fold import Change, Json, Response, TaskFold, Turn
from services.ingress.core.responses.render import (
    call_item,
    message_id,
    message_item,
    reasoning_id,
    reasoning_item,
    response_json,
    text_part,
    thought_part,
)
from shared.contracts.facts import ToolCall
from shared.contracts.log import Event
from shared.contracts.tokens import TokenDelta

STRIDE, ATTEMPT = 100_000_000, 1_000_000
SAID, RESULTS, END = 90 * ATTEMPT, 95 * ATTEMPT, 99 * ATTEMPT
_MOST_ATTEMPTS = 89
_PER_CALL = 6
_THOUGHT_ENDS = 3
"""Events at the end of what was thought."""
_TERMINAL = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
    "cancelled": "response.failed",  # the protocol has no event of its own; the status says it
}


class ResponseEvents:
    """Turns the events of a task into those of one of its responses."""

    def __init__(self, task: str, number: int = 0) -> None:
        self.fold = TaskFold(task)
        self._number = number
        self._speech: Speech | None = None
        """The attempt that speaks, or spoke last."""
        self._held: list[Json] = []
        """What the next turn says already, while a result of the one before has not been heard."""
        self.ended = False

    def of(self, event: Event) -> list[Json]:
        """What follows from an event of the task, in order.

        Facts and deltas come from two streams: the first words of a turn may overtake the last
        result of the turn before, and wait here for it.
        """
        if isinstance(event.data, TokenDelta):
            response = self.fold.last
            if response is None or response.place.number != self._number:
                return []
            self._held += self._delta(response, event.data)
            return self._released(response)
        events: list[Json] = []
        for change in self.fold.event(event):
            if change.response.place.number == self._number:
                if change.kind == "ended":
                    events += self._released()
                events += self._change(change) + self._released(change.response)
        return events

    def _released(self, response: Response | None = None) -> list[Json]:
        """What was held, once nothing of the last turn is open."""
        turn = response.turns[-1] if response is not None and response.turns else None
        if turn is not None and len(turn.results) < len(turn.said.tool_calls):
            return []
        held, self._held = self._held, []
        return held

    def _change(self, change: Change) -> list[Json]:
        response = change.response
        match change.kind:
            case "created":
                return list(_head(response))
            case "started":
                status = "in_progress"
                return [_event(2, "response.in_progress", response=_begun(response, status))]
            case "said" if change.turn is not None:
                return list(_said(response, change.turn))
            case "result" if change.turn is not None and change.call is not None:
                return list(_result(response, change.turn, change.call))
            case "ended":
                self.ended = True
                # behind a turn that was cut short: its words are in no fact
                number = (len(response.turns) + 1) * STRIDE + END
                return [
                    _event(number, _TERMINAL[response.status], response=response_json(response))
                ]
        return []

    def _delta(self, response: Response, delta: TokenDelta) -> list[Json]:
        turn = len(response.turns) + 1
        attempt = min(delta.attempt, _MOST_ATTEMPTS)
        if self._speech is None or self._speech.speaker != (turn, attempt):
            self._speech = Speech((turn, attempt), _first_index(response))
        return list(self._speech.of(delta))


class Speech:
    """What one attempt of a turn thinks and says, item by item."""

    def __init__(self, speaker: tuple[int, int], index: int) -> None:
        self.speaker, self._index = speaker, index
        turn, attempt = speaker
        self._base = turn * STRIDE + attempt * ATTEMPT
        self._thought, self._speaking = "", False

    def of(self, delta: TokenDelta) -> Iterator[Json]:
        """The events of one more piece."""
        yield from self._thinking(delta) if delta.reasoning else self._saying(delta)

    def _thinking(self, delta: TokenDelta) -> Iterator[Json]:
        item = reasoning_id(delta.task, delta.step)
        where: Json = {"item_id": item, "output_index": self._index, "content_index": 0}
        if not self._thought:
            begun = reasoning_item(delta.task, delta.step, None)
            yield from _item_begun(self._base, self._index, begun, thought_part(""))
        self._thought += delta.reasoning
        number = self._base + 2 + delta.index
        yield _event(number, "response.reasoning_text.delta", **where, delta=delta.reasoning)

    def _saying(self, delta: TokenDelta) -> Iterator[Json]:
        index = self._index + bool(self._thought)
        moved = _THOUGHT_ENDS + 2 if self._thought else 0
        number = self._base + 2 + delta.index + moved
        if not self._speaking:
            self._speaking = True
            begun = message_item(delta.task, delta.step, None)
            if self._thought:
                first = number - moved
                thought = reasoning_item(delta.task, delta.step, self._thought)
                yield from _thought_ends(first, self._index, thought, self._thought)
            yield from _item_begun(number - 2, index, begun, text_part(""))
        item = message_id(delta.task, delta.step)
        where: Json = {"item_id": item, "output_index": index, "content_index": 0}
        yield _event(number, "response.output_text.delta", **where, delta=delta.text, logprobs=[])


def _item_begun(number: int, index: int, item: Json, part: Json) -> Iterator[Json]:
    """An item that is still empty, and its only part."""
    yield _event(number, "response.output_item.added", output_index=index, item=item)
    where: Json = {"item_id": item["id"], "output_index": index, "content_index": 0}
    yield _event(number + 1, "response.content_part.added", **where, part=part)


def _thought_ends(number: int, index: int, item: Json, text: str) -> Iterator[Json]:
    """The model has thought: the text, its part, its item."""
    where: Json = {"item_id": item["id"], "output_index": index, "content_index": 0}
    part = thought_part(text)
    yield _event(number, "response.reasoning_text.done", **where, text=text)
    yield _event(number + 1, "response.content_part.done", **where, part=part)
    yield _event(number + 2, "response.output_item.done", output_index=index, item=item)


def _event(number: int, type_: str, **fields: object) -> Json:
    return {"type": type_, "sequence_number": number, **fields}


def _begun(response: Response, status: str) -> Json:
    return response_json(response, status=status)


def _head(response: Response) -> Iterator[Json]:
    """The beginning; one that nobody waits for says that it is queued first."""
    queued = bool(response.echo.get("background")) and response.place.number == 0
    status = "queued" if queued else "in_progress"
    yield _event(0, "response.created", response=_begun(response, status))
    if queued:
        yield _event(1, "response.queued", response=_begun(response, "queued"))


def _first_index(response: Response, turn: Turn | None = None) -> int:
    """The output index of a turn's first item; without one that of the turn to come."""
    index = 0
    for one in response.turns:
        if one is turn:
            return index
        index += one.before_calls + len(one.said.tool_calls)
    return index


def _said(response: Response, turn: Turn) -> Iterator[Json]:
    """The end of a text, and the calls behind it."""
    said, index = turn.said, _first_index(response, turn)
    base = len(response.turns) * STRIDE + SAID
    if turn.thought:
        if not said.content:  # else it ended where the text began
            thought = reasoning_item(said.task, said.step, turn.thought)
            yield from _thought_ends(base - _THOUGHT_ENDS, index, thought, turn.thought)
        index += 1
    if said.content:
        where: Json = {
            "item_id": message_id(said.task, said.step),
            "output_index": index,
            "content_index": 0,
        }
        yield _event(base, "response.output_text.done", **where, text=said.content, logprobs=[])
        part = text_part(said.content)
        yield _event(base + 1, "response.content_part.done", **where, part=part)
        item = message_item(said.task, said.step, said.content)
        yield _event(base + 2, "response.output_item.done", output_index=index, item=item)
    first = index + bool(said.content)
    for place, call in enumerate(said.tool_calls):
        emit = _client_call if call.name in response.clients else _server_call
        item = call_item(response, turn, place, call)
        yield from emit(base + 3 + place * _PER_CALL, first + place, item)


def _client_call(base: int, index: int, item: Json) -> Iterator[Json]:
    where: Json = {"item_id": item["id"], "output_index": index}
    begun = item | {"status": "in_progress", "arguments": ""}
    kind = "response.function_call_arguments"
    arguments = item["arguments"]
    yield _event(base, "response.output_item.added", output_index=index, item=begun)
    yield _event(base + 1, f"{kind}.delta", **where, delta=arguments)
    yield _event(base + 2, f"{kind}.done", **where, name=item["name"], arguments=arguments)
    yield _event(base + 3, "response.output_item.done", output_index=index, item=item)


def _server_call(base: int, index: int, item: Json) -> Iterator[Json]:
    """A call that we answer; its end comes with the result."""
    where: Json = {"item_id": item["id"], "output_index": index}
    begun = item | {"status": "in_progress", "arguments": "", "output": None, "error": None}
    kind, arguments = "response.mcp_call", item["arguments"]
    yield _event(base, "response.output_item.added", output_index=index, item=begun)
    yield _event(base + 1, f"{kind}.in_progress", **where)
    yield _event(base + 2, f"{kind}_arguments.delta", **where, delta=arguments)
    yield _event(base + 3, f"{kind}_arguments.done", **where, arguments=arguments)


def _result(response: Response, turn: Turn, call: ToolCall) -> Iterator[Json]:
    if call.name in response.clients:
        return
    place = turn.said.tool_calls.index(call)
    index = _first_index(response, turn) + turn.before_calls + place
    result = turn.results[call.id]
    base = len(response.turns) * STRIDE + RESULTS + 2 * result.order
    item = call_item(response, turn, place, call)
    kind = "failed" if result.failed else "completed"
    where: Json = {"item_id": item["id"], "output_index": index}
    yield _event(base, f"response.mcp_call.{kind}", **where)
    yield _event(base + 1, "response.output_item.done", output_index=index, item=item)
