"""OpenAI's chat objects, built from the events of a completion or of a task.

The order of chunks: the role, content deltas, the client's tool calls, the finish reason, the
usage where it was asked for. `[DONE]` is the transport's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from shared.contracts.facts import Done, Finish, ToolCall, Usage
from shared.contracts.log import Event
from shared.contracts.tokens import DirectEvent, DirectResult, TokenDelta
from shared.errors import Permanent, Transient, error_of

Json = dict[str, object]
_FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


@dataclass(frozen=True, slots=True)
class Frame:
    """What all objects of one completion share. `extra` is ours: the task and its session."""

    id: str
    created: int
    model: str
    include_usage: bool = False
    extra: Json = field(default_factory=dict)

    def chunk(self, delta: Json, finish: str | None = None) -> Json:
        """A chunk with one choice."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._object([choice])

    def usage_chunk(self, usage: Usage) -> Json:
        """The chunk after the last one: no choice, the usage of the whole completion."""
        return self._object([]) | {"usage": usage_json(usage)}

    def _object(self, choices: list[Json]) -> Json:
        body: Json = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if self.include_usage:
            body["usage"] = None
        return body | self.extra


def usage_json(usage: Usage) -> Json:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }


def tool_call_json(call: ToolCall) -> Json:
    """A call of a client's tool."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def completion(frame: Frame, content: str, calls: Sequence[ToolCall], finish: Finish) -> Json:
    """The whole answer of a request without `stream`, still without its usage."""
    message: Json = {"role": "assistant", "content": content, "refusal": None}
    if calls:
        message["tool_calls"] = [tool_call_json(call) for call in calls]
        message["content"] = content or None
    return {
        "id": frame.id,
        "object": "chat.completion",
        "created": frame.created,
        "model": frame.model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": finish_reason(finish),
            }
        ],
    } | frame.extra


def finish_reason(finish: Finish) -> str:
    """OpenAI's word for the end of a generation.

    Raises:
        Transient: `aborted`: something stopped it, so this is no answer.
    """
    if finish not in _FINISH:
        raise Transient("aborted", "the generation was stopped before it was complete")
    return _FINISH[finish]


class DirectChunks:
    """The chunks of a stateless completion."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._said = 0

    def start(self) -> Json:
        """The first chunk: the role."""
        return self._frame.chunk({"role": "assistant", "content": ""})

    def of(self, event: DirectEvent) -> Iterator[Json]:
        """The chunks of one event.

        Raises:
            MillraceError: the failure that the event carries.
        """
        if event.error is not None:
            raise error_of(event.error)
        if event.text:
            self._said += len(event.text)
            yield self._frame.chunk({"content": event.text})
        if event.done is not None:
            yield from self._end(event.done)

    def _end(self, result: DirectResult) -> Iterator[Json]:
        reason = finish_reason(result.finish)
        if rest := result.content[self._said :]:
            yield self._frame.chunk({"content": rest})
        for index, call in enumerate(result.tool_calls):
            head = {"index": index, **tool_call_json(call)}
            head["function"] = {"name": call.name, "arguments": ""}
            yield self._frame.chunk({"tool_calls": [head]})
            tail = {"index": index, "function": {"arguments": call.arguments}}
            yield self._frame.chunk({"tool_calls": [tail]})
        yield self._frame.chunk({}, reason)
        if self._frame.include_usage:
            yield self._frame.usage_chunk(result.usage)


class TaskChunks:
    """The chunks of a durable task: what its model calls say, one after the other.

    Tools run on our side, so their calls are not shown here. A retried model call repeats itself;
    what was said already is said once. The texts of two steps are set apart by an empty line.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._step, self._attempt = -1, 1
        self._sent = ""
        """What the viewer has of the step that spoke last."""
        self._heard = ""
        """What the step's present attempt has said so far."""

    def start(self) -> Json:
        """The first chunk: the role."""
        return self._frame.chunk({"role": "assistant", "content": ""})

    def of(self, event: Event) -> Iterator[Json]:
        """The chunks of one event; the `done` fact ends the answer.

        Raises:
            MillraceError: why the task has failed, or `task_cancelled`.
        """
        match event.data:
            case TokenDelta() as delta:
                if text := self._new_text(delta):
                    yield self._frame.chunk({"content": text})
            case Done() as done:
                yield from self._end(done)

    def _new_text(self, delta: TokenDelta) -> str:
        if delta.step != self._step:
            gap = "\n\n" if self._sent else ""
            self._step, self._attempt = delta.step, delta.attempt
            self._sent = self._heard = delta.text
            return gap + delta.text
        if delta.attempt != self._attempt:
            self._attempt, self._heard = delta.attempt, ""
        self._heard += delta.text
        if self._sent.startswith(self._heard):
            return ""  # a second attempt says what the first one said
        sent, self._sent = self._sent, self._heard
        if self._heard.startswith(sent):
            return self._heard[len(sent) :]
        return "\n\n" + self._heard  # it differs: what is out cannot be taken back, only restated

    def _end(self, done: Done) -> Iterator[Json]:
        output = task_output(done)
        if output.strip() != self._sent.strip():  # deltas that were lost, or no model at the end
            known = output.startswith(self._sent)
            rest = output.removeprefix(self._sent) if known else f"\n\n{output}"
            yield self._frame.chunk({"content": rest})
        yield self._frame.chunk({}, "stop")
        if self._frame.include_usage:
            yield self._frame.usage_chunk(done.totals.usage)


def task_output(done: Done) -> str:
    """The answer of a completed task.

    Raises:
        MillraceError: why it failed; `task_cancelled` where somebody stopped it.
    """
    if done.status == "completed":
        return done.output
    if done.error is not None and done.status == "failed":
        raise error_of(done.error)
    raise Permanent(f"task_{done.status}", f"the task {done.task} was {done.status}")
