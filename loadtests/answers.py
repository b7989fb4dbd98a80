"""Whether an answer is right. Pure: bodies in, text and counts out; what is wrong is an error."""

from __future__ import annotations

import msgspec

from infra.demo.cases import mentions
from loadtests.questions import Question
from shared.errors import Permanent

_SHOWN = 60


class Said(msgspec.Struct):
    """What a chat completion says; in a stream, the next piece of it."""

    content: str | None = None


class Choice(msgspec.Struct):
    """One answer of a chat completion."""

    message: Said
    finish_reason: str | None = None


class ChatUsage(msgspec.Struct):
    """Tokens of a chat completion."""

    completion_tokens: int = 0


class Completion(msgspec.Struct):
    """OpenAI's chat completion, as far as it is looked at."""

    choices: list[Choice]
    usage: ChatUsage


class ChunkChoice(msgspec.Struct):
    """The next piece of one answer."""

    delta: Said
    finish_reason: str | None = None


class Origin(msgspec.Struct):
    """The task behind a chat completion of an agent."""

    task: str


class Chunk(msgspec.Struct):
    """One of a chat completion's stream."""

    choices: list[ChunkChoice]
    usage: ChatUsage | None = None
    millrace: Origin | None = None


class TaskUsage(msgspec.Struct):
    """Tokens of a task."""

    output: int = 0


class Totals(msgspec.Struct):
    """The sums of a task."""

    steps: int = 0
    usage: TaskUsage = msgspec.field(default_factory=TaskUsage)


class TaskAccepted(msgspec.Struct):
    """202 of a task."""

    task: str
    session: str
    events: str


class TaskEnd(msgspec.Struct):
    """A task that has ended; `status` in its event, `state` where it is asked for."""

    task: str
    output: str = ""
    status: str = ""
    state: str = ""
    totals: Totals = msgspec.field(default_factory=Totals)


class Delta(msgspec.Struct):
    """A piece of text of a task's stream."""

    text: str = ""


class Part(msgspec.Struct):
    """A part of a message in a response, or a block of Anthropic's."""

    text: str = ""


class Item(msgspec.Struct):
    """A part of a response's output."""

    type: str
    content: list[Part] = msgspec.field(default_factory=list)


class OutputUsage(msgspec.Struct):
    """Tokens of a response, or of a message."""

    output_tokens: int = 0


class Response(msgspec.Struct):
    """OpenAI's response."""

    id: str
    status: str
    output: list[Item]
    usage: OutputUsage | None = None

    @property
    def text(self) -> str:
        """All that it says."""
        return "".join(part.text for item in self.output for part in item.content)


class ResponseEvent(msgspec.Struct):
    """One of a response's stream."""

    type: str
    sequence_number: int
    response: Response | None = None


class Message(msgspec.Struct):
    """Anthropic's message."""

    content: list[Part]
    usage: OutputUsage
    stop_reason: str | None = None


class Embedding(msgspec.Struct):
    """A vector."""

    embedding: list[float]


class Embeddings(msgspec.Struct):
    """OpenAI's list of embeddings."""

    data: list[Embedding]


class Stored(msgspec.Struct):
    """A document that was stored."""

    document: str
    sequence: int


class Passage(msgspec.Struct):
    """A passage that was found."""

    document: str
    text: str


class Found(msgspec.Struct):
    """What a search found."""

    results: list[Passage]


def read[T](body: bytes | str, kind: type[T]) -> T:
    """A body as what it has to be.

    Raises:
        Permanent: `wrong_shape`.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Permanent("wrong_shape", f"no {kind.__name__}: {error}") from error


def check_text(question: Question, text: str) -> None:
    """The answer to a question.

    Raises:
        Permanent: `empty_answer`, `wrong_answer`.
    """
    if not text.strip():
        raise Permanent("empty_answer", f"to {question.ask!r}")
    for expected in question.expect:
        if not mentions(text, expected):
            said = " ".join(text.split())[:_SHOWN]
            raise Permanent("wrong_answer", f"{expected!r} is not in {said!r}")


def check_end(what: str, found: str | None, *right: str) -> None:
    """How something ended.

    Raises:
        Permanent: `wrong_end`.
    """
    if found not in right:
        raise Permanent("wrong_end", f"{what} is {found!r}, not {' or '.join(right)}")


class ChatStream:
    """Adds up the chunks of a chat completion's stream."""

    def __init__(self) -> None:
        self.text = ""
        self.task = ""
        self.tokens = 0
        self._finish: str | None = None
        self._closed = False

    def take(self, data: str) -> bool:
        """The data of one event; true where it brings text.

        Raises:
            Permanent: `wrong_shape`; `after_the_end` for what comes behind the terminal event.
        """
        if self._closed:
            raise Permanent("after_the_end", "an event behind [DONE]")
        if data == "[DONE]":
            self._closed = True
            return False
        chunk = read(data, Chunk)
        self.tokens = chunk.usage.completion_tokens if chunk.usage else self.tokens
        self.task = chunk.millrace.task if chunk.millrace else self.task
        before = len(self.text)
        for choice in chunk.choices:
            self.text += choice.delta.content or ""
            self._finish = choice.finish_reason or self._finish
        return len(self.text) > before

    def close(self) -> None:
        """The connection has ended.

        Raises:
            Permanent: `no_end` without the terminal event, `wrong_end`.
        """
        if not self._closed:
            raise Permanent("no_end", "the stream stopped without [DONE]")
        check_end("finish_reason", self._finish, "stop", "length")


class TaskStream:
    """Adds up the events of a task's stream; over NATS they are told as well."""

    def __init__(self) -> None:
        self.text = ""
        self.end: TaskEnd | None = None

    def take(self, name: str, data: str) -> bool:
        """One event; true where it brings text.

        Raises:
            Permanent: `wrong_shape`, `after_the_end`.
        """
        if self.end is not None:
            raise Permanent("after_the_end", f"{name} behind done")
        if name == "delta":
            self.text += read(data, Delta).text
            return True
        if name == "done":
            self.end = read(data, TaskEnd)
        return False

    def close(self) -> TaskEnd:
        """The connection has ended; how the task did.

        Raises:
            Permanent: `no_end`, `wrong_end`; `lost_text` where the deltas are not the answer.
        """
        if self.end is None:
            raise Permanent("no_end", "the stream stopped without done")
        check_end("status", self.end.status, "completed")
        if not self.text.endswith(self.end.output):
            raise Permanent("lost_text", "the deltas do not add up to the output")
        return self.end


class ResponseStream:
    """Adds up the events of a response's stream."""

    def __init__(self) -> None:
        self._number = -1
        self.response: Response | None = None

    def take(self, data: str) -> bool:
        """The data of one event; true where it brings text.

        Raises:
            Permanent: `wrong_shape`, `after_the_end`, `wrong_order`.
        """
        if self.response is not None:
            raise Permanent("after_the_end", "an event behind response.completed")
        event = read(data, ResponseEvent)
        if event.sequence_number <= self._number:
            raise Permanent("wrong_order", "sequence_number does not rise")
        self._number = event.sequence_number
        if event.type in {"response.completed", "response.failed", "response.incomplete"}:
            self.response = event.response
        return event.type == "response.output_text.delta"

    def close(self) -> Response:
        """The connection has ended.

        Raises:
            Permanent: `no_end`, `wrong_end`.
        """
        if self.response is None:
            raise Permanent("no_end", "the stream stopped without response.completed")
        check_end("status", self.response.status, "completed")
        return self.response
