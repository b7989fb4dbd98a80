"""OpenAI's chat objects, built from the events of completions or of a task.

The order of chunks: the role of every choice, then reasoning, content and the client's tool calls
as they come, the finish reason of each choice, the usage where it was asked for. `[DONE]` is the
transport's. OpenAI's objects have no place for reasoning: it is `reasoning_content`, as DeepSeek
and vLLM name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import orjson

from shared.contracts.facts import Done, Finish, ToolCall, Usage
from shared.contracts.log import Event
from shared.contracts.tokens import DirectEvent, DirectResult, Logprob, TokenDelta
from shared.errors import Permanent, Transient, error_of

Json = dict[str, object]
Chunk = Json | orjson.Fragment
"""An object of a stream, or its bytes."""
_FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


class Frame(msgspec.Struct, frozen=True):
    """What all objects of one completion share. `extra` is ours: the task and its session."""

    id: str
    created: int
    model: str
    include_usage: bool = False
    fingerprint: str | None = None
    extra: Json = msgspec.field(default_factory=dict)

    def chunk(
        self,
        delta: Json,
        finish: str | None = None,
        *,
        index: int = 0,
        logprobs: Sequence[Logprob] = (),
    ) -> Json:
        """A chunk with one choice."""
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs_json(logprobs) if logprobs else None,
            "finish_reason": finish,
        }
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
            "system_fingerprint": self.fingerprint,
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
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def tool_call_json(call: ToolCall) -> Json:
    """A call of a client's tool."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def call_chunks(index: int, call: ToolCall) -> Iterator[Json]:
    """A call in a stream: the name and id first, then the arguments."""
    place: Json = {"index": index}
    head = place | tool_call_json(call) | {"function": {"name": call.name, "arguments": ""}}
    yield {"tool_calls": [head]}
    yield {"tool_calls": [place | {"function": {"arguments": call.arguments}}]}


def logprobs_json(tokens: Sequence[Logprob]) -> Json:
    """OpenAI's list of tokens."""
    content = [
        _token(token) | {"top_logprobs": [_token(one) for one in token.top]} for token in tokens
    ]
    return {"content": content, "refusal": None}


def _token(token: Logprob) -> Json:
    seen = None if token.bytes is None else list(token.bytes)
    return {"token": token.text, "logprob": token.logprob, "bytes": seen}


@dataclass(slots=True)
class Choice:
    """One choice of an answer without `stream`; `scored` is whether logprobs were asked for."""

    content: str = ""
    calls: Sequence[ToolCall] = ()
    finish: Finish = "stop"
    usage: Usage = field(default_factory=Usage)
    logprobs: list[Logprob] = field(default_factory=list)
    scored: bool = False
    ended: bool = False
    reasoning: str = ""

    def hear(self, event: DirectEvent) -> None:
        """Take an event of its completion.

        Raises:
            MillraceError: the failure that the event carries.
        """
        if event.error is not None:
            raise error_of(event.error)
        self.logprobs += event.logprobs
        if (result := event.done) is not None:
            self.content, self.calls = result.content, result.tool_calls
            self.reasoning = result.reasoning
            self.finish, self.usage, self.ended = result.finish, result.usage, True

    def body(self, index: int) -> Json:
        """OpenAI's choice object."""
        message: Json = {"role": "assistant", "content": self.content, "refusal": None}
        if self.calls:
            message["tool_calls"] = [tool_call_json(call) for call in self.calls]
            message["content"] = self.content or None
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        return {
            "index": index,
            "message": message,
            "logprobs": logprobs_json(self.logprobs) if self.scored else None,
            "finish_reason": finish_reason(self.finish),
        }


def completion(frame: Frame, choices: Sequence[Choice]) -> Json:
    """The whole answer of a request without `stream`; what the choices used is added up."""
    return {
        "id": frame.id,
        "object": "chat.completion",
        "created": frame.created,
        "model": frame.model,
        "system_fingerprint": frame.fingerprint,
        "choices": [choice.body(index) for index, choice in enumerate(choices)],
        "usage": usage_json(sum((choice.usage for choice in choices), Usage())),
    } | frame.extra


def finish_reason(finish: Finish) -> str:
    """OpenAI's word for the end of a generation.

    Raises:
        Transient: `aborted`: something stopped it, so this is no answer.
    """
    if finish not in _FINISH:
        raise Transient("aborted", "the generation was stopped before it was complete")
    return _FINISH[finish]


class Spoken:
    """The chunks that bring nothing but text: nearly all of a stream, and all alike but for it."""

    _PLACE = "\0"

    def __init__(self, frame: Frame, index: int) -> None:
        whole = orjson.dumps(frame.chunk({"content": self._PLACE}, index=index))
        # the last one: what stands before the text is the client's, the model's name for one
        self._before, _, self._after = whole.rpartition(orjson.dumps(self._PLACE))

    def chunk(self, text: str) -> orjson.Fragment:
        """The one with this text, as it is sent."""
        return orjson.Fragment(b"".join((self._before, orjson.dumps(text), self._after)))


class DirectChunks:
    """The chunks of one choice of a stateless completion; `usage` is there when it has ended."""

    def __init__(self, frame: Frame, index: int = 0) -> None:
        self._frame, self._index = frame, index
        self._spoken = Spoken(frame, index)
        self._said = self._called = self._thought = 0
        self.usage = Usage()

    def start(self) -> Json:
        """The first chunk: the role."""
        return self._chunk({"role": "assistant", "content": ""})

    def of(self, event: DirectEvent) -> Iterator[Chunk]:
        """The chunks of one event.

        Raises:
            MillraceError: the failure that the event carries.
        """
        if event.error is not None:
            raise error_of(event.error)
        if event.reasoning:
            self._thought += len(event.reasoning)
            yield self._chunk({"reasoning_content": event.reasoning})
        if event.text:
            self._said += len(event.text)
            yield self._text(event.text, event.logprobs)
        if event.call is not None:
            yield from self._call(event.call)
        if event.done is not None:
            yield from self._end(event.done)

    def _text(self, text: str, logprobs: Sequence[Logprob]) -> Chunk:
        if not logprobs:
            return self._spoken.chunk(text)
        return self._frame.chunk({"content": text}, index=self._index, logprobs=logprobs)

    def _call(self, call: ToolCall) -> Iterator[Json]:
        """The name and id first, then the arguments, as OpenAI's clients put them together."""
        for delta in call_chunks(self._called, call):
            yield self._chunk(delta)
        self._called += 1

    def _end(self, result: DirectResult) -> Iterator[Json]:
        reason = finish_reason(result.finish)
        if thought := result.reasoning[self._thought :]:
            yield self._chunk({"reasoning_content": thought})
        if rest := result.content[self._said :]:
            yield self._chunk({"content": rest})
        for call in result.tool_calls[self._called :]:
            yield from self._call(call)
        self.usage = result.usage
        yield self._chunk({}, reason)

    def _chunk(self, delta: Json, finish: str | None = None) -> Json:
        return self._frame.chunk(delta, finish, index=self._index)


class TaskChunks:
    """The chunks of a durable task: what its model calls say, one after the other.

    Tools run on our side, so their calls are not shown here. A retried model call repeats itself;
    what was said already is said once. The texts of two steps are set apart by an empty line.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._step, self._attempt = -1, 1
        self._thinker = (-1, 1)
        """Step and attempt whose thoughts are shown: of each step those of one."""
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
            case TokenDelta(reasoning=thought) as delta if thought:
                if self._thinker[0] != delta.step:
                    self._thinker = (delta.step, delta.attempt)
                if self._thinker == (delta.step, delta.attempt):
                    yield self._frame.chunk({"reasoning_content": thought})
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
