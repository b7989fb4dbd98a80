"""Chat completions of an agent: what a chat body asks of a task, and a task's part as chunks.

The client may have tools of its own. A call of one ends the completion with `tool_calls`; the next
request, with the results at its end, goes on with the same task.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from services.ingress.core.catalog import priority_of
from services.ingress.core.chat.body import ROLES, ChatBody, demands_of, sampling_of
from services.ingress.core.chat.chunks import (
    Choice,
    Frame,
    TaskChunks,
    call_chunks,
    task_output,
)
from services.ingress.core.chat.parts import ChatMessageBody, invalid
from services.ingress.core.responses.fold import Json, Place, Response, TaskFold
from services.ingress.core.responses.input import Given, check_balance, parts_of
from shared.contracts.agents import Sampling
from shared.contracts.facts import Done
from shared.contracts.log import Event
from shared.contracts.tasks import InputMessage, PastCall, Terms
from shared.contracts.tokens import TokenDelta


def terms_of_chat(body: ChatBody, base: Sampling) -> Terms:
    """What a chat wants of an agent's model calls; `base` is the agent's sampling."""
    return Terms(
        tools=tuple(tool.spec() for tool in body.tools or ()),
        demands=demands_of(body),
        priority=priority_of(body.service_tier),
        sampling=sampling_of(body, base),
    )


def given_in_chat(body: ChatBody) -> Given:
    """The messages, with the results at their end apart."""
    return parts_of([_message(message) for message in body.messages])


def _message(message: ChatMessageBody) -> InputMessage:
    return InputMessage(
        role=ROLES.get(message.role, message.role),
        content=message.text() or "",
        tool_calls=tuple(
            PastCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or ()
        ),
        tool_call_id=message.tool_call_id or "",
    )


def task_input(body: ChatBody, *, existing: bool) -> str | tuple[InputMessage, ...]:
    """What an agent's session gets: the last user message if it knows the rest already.

    Raises:
        Permanent: `invalid_request` where an existing session gets no user message;
            `missing_tool_output`, `unknown_call` for a history that is not balanced.
    """
    last = body.messages[-1]
    if existing:
        if last.role != "user" or not last.text():
            raise invalid("messages", "the last message for an existing session must be a user's")
        return last.text() or ""
    messages = given_in_chat(body).messages
    check_balance(messages)
    if len(messages) == 1 and last.role == "user":
        return last.text() or ""
    return messages


class AgentChunks:
    """The chunks of one part of a task: from a request of its client to the next one."""

    def __init__(self, frame: Frame, place: Place) -> None:
        self._frame, self._number = frame, place.number
        self._said = TaskChunks(frame)
        self._fold = TaskFold(place.task)
        self.ended = False

    def start(self) -> Json:
        """The first chunk: the role."""
        return self._said.start()

    def of(self, event: Event) -> Iterator[Json]:
        """The chunks of one event of the task.

        Raises:
            MillraceError: why the task has failed, or `task_cancelled`.
        """
        if isinstance(event.data, TokenDelta):
            part = self._fold.last
            if part is not None and part.open and part.place.number == self._number:
                yield from self._said.of(event)
        elif (part := self._end(event)) is not None:
            yield from self._last(part, event)

    def whole(self, event: Event) -> Choice | None:
        """The answer at once, when its end has come."""
        part = self._end(event)
        if part is None:
            return None
        last = part.turns[-1].said if part.turns else None
        thought = "" if last is None else last.reasoning
        if part.waiting:
            text = "" if last is None else last.content
            calls = part.waiting
            return Choice(text, calls, "tool_calls", usage=part.usage, reasoning=thought)
        assert isinstance(event.data, Done)  # noqa: S101  # nothing else ends a part
        return Choice(task_output(event.data), usage=part.usage, reasoning=thought)

    def _end(self, event: Event) -> Response | None:
        """The part, where this event is its end."""
        for change in self._fold.event(event):
            if change.kind == "ended" and change.response.place.number == self._number:
                self.ended = True
                return change.response
        return None

    def _last(self, part: Response, event: Event) -> Iterator[Json]:
        if not part.waiting and isinstance(done := event.data, Done):
            own = replace(done, totals=replace(done.totals, usage=part.usage))
            yield from self._said.of(Event(event.id, event.kind, event.time, event.task, own))
            return
        for number, call in enumerate(part.waiting):
            for delta in call_chunks(number, call):
                yield self._frame.chunk(delta)
        yield self._frame.chunk({}, "tool_calls")
        if self._frame.include_usage:
            yield self._frame.usage_chunk(part.usage)
