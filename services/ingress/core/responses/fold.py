"""Responses in a task's log: a response ends where the task ends, or where it waits for its client.

    submitted --> response 0 --client's calls parked--> (ended) --first result--> response 1 --> ...

Pure, and a function of the facts alone: any replica that folds the log finds the same responses
with the same contents, while a task runs or weeks later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import orjson

from shared.contracts import facts as f
from shared.contracts.base import TOKEN
from shared.contracts.log import Event, Malformed, StoredFact
from shared.contracts.tasks import InputMessage, TaskSubmitted, Terms, terms_of
from shared.errors import Failure, Permanent

Json = dict[str, object]
ECHO = "millrace.response"
"""The key of a task's metadata under which a request is kept as it has to be shown again."""
ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
Fact = f.Fact | Malformed


@dataclass(frozen=True, slots=True)
class Place:
    """Where a response is: the task, and its number in it."""

    task: str
    number: int = 0

    @property
    def id(self) -> str:
        """The id that clients know."""
        return f"resp_{self.task}_{self.number}"


def place_of(response: str) -> Place:
    """The place that an id names.

    Raises:
        Permanent: `response_not_found` for an id that is none of ours.
    """
    task, _, number = response.removeprefix("resp_").rpartition("_")
    ours = response.startswith("resp_") and TOKEN.fullmatch(task)
    if not (ours and number.isascii() and number.isdigit() and len(number) < 7):
        raise not_found(response)
    return Place(task, int(number))


def not_found(response: str) -> Permanent:
    """There is no such response (any more)."""
    detail = f"Response with id {response[:140]!r} not found"
    return Permanent("response_not_found", detail, field="response_id")


@dataclass(slots=True)
class Result:
    """What a call returned, and when in the order of its turn.

    One that came after the end of its response is shown nowhere in it: an end stays as it was.
    """

    text: str
    failed: bool
    order: int
    late: bool = False


@dataclass(slots=True)
class Turn:
    """One answer of the model and the results of its calls."""

    said: f.Inferred
    results: dict[str, Result] = field(default_factory=dict)
    parked: set[str] = field(default_factory=set)
    """Calls that wait for the client."""

    @property
    def thought(self) -> str:
        """What the model thought before it spoke, as far as viewers were told.

        Logs of releases that told nobody are shown as they were.
        """
        cuts = self.said.thought_cuts
        return self.said.reasoning[: cuts[-1]] if cuts else ""

    @property
    def before_calls(self) -> int:
        """How many items stand before its calls: what was thought, what was said."""
        return bool(self.thought) + bool(self.said.content)

    def call_at(self, step: int) -> f.ToolCall | None:
        """The call that a step stands for."""
        place = step - self.said.step - 1  # the steps of an answer's calls follow its own
        calls = self.said.tool_calls
        return calls[place] if 0 <= place < len(calls) else None

    @property
    def waits_for(self) -> tuple[f.ToolCall, ...]:
        """The calls of the client, where nothing else of it is under way."""
        left = tuple(call for call in self.said.tool_calls if call.id not in self.results)
        return left if all(call.id in self.parked for call in left) else ()


@dataclass(slots=True)
class Response:
    """One response as far as the log tells."""

    place: Place
    seq: int
    created: float
    terms: Terms
    sampling: object = None
    metadata: dict[str, str] = field(default_factory=dict)
    input: tuple[InputMessage, ...] = ()
    status: ResponseStatus = "queued"
    turns: list[Turn] = field(default_factory=list)
    clients: set[str] = field(default_factory=set)
    """The names of the client's tools."""
    waiting: tuple[f.ToolCall, ...] = ()
    """The calls that it ended with: the client has to answer them."""
    ended: float | None = None
    end_seq: int = 0
    error: Failure | None = None

    @property
    def echo(self) -> Json:
        """What of the request is shown again as it came."""
        try:
            found = orjson.loads(self.metadata.get(ECHO, "{}"))
        except orjson.JSONDecodeError:
            return {}  # somebody else's metadata
        return found if isinstance(found, dict) else {}

    @property
    def open(self) -> bool:
        """Whether it goes on."""
        return self.ended is None

    @property
    def usage(self) -> f.Usage:
        """Of all its model calls."""
        total = f.Usage()
        for turn in self.turns:
            total += turn.said.usage
        return total


@dataclass(slots=True)
class Change:
    """What a fact has made of a response."""

    kind: Literal["created", "started", "said", "result", "ended"]
    response: Response
    turn: Turn | None = None
    call: f.ToolCall | None = None


class TaskFold:
    """Folds the facts of one task into its responses."""

    def __init__(self, task: str) -> None:
        self._task = task
        self.responses: list[Response] = []
        self._done = False
        self._answered: dict[str, str] = {}

    @property
    def last(self) -> Response | None:
        """The newest response."""
        return self.responses[-1] if self.responses else None

    def answers(self) -> dict[str, str]:
        """What clients have answered: call -> text."""
        return self._answered

    def fold(self, history: Iterable[StoredFact]) -> TaskFold:
        """Add the facts of the task; returns itself."""
        for stored in history:
            if stored.task == self._task:
                self.fact(stored.fact, stored.seq, stored.time)
        return self

    def event(self, event: Event) -> list[Change]:
        """A fact as a viewer sees it."""
        seq = int(event.id.partition(":")[0])
        return self.fact(event.data, seq, event.time)  # type: ignore[arg-type]  # deltas are not folded

    def fact(self, fact: Fact, seq: int, time: float) -> list[Change]:
        """The next fact, and what changes with it."""
        if self._done:
            return []
        match fact:
            case TaskSubmitted() if not self.responses:
                return [self._submitted(fact, seq, time)]
            case Malformed() if not self.responses:
                self.responses.append(Response(Place(self._task), seq, time, Terms()))
            case f.Accepted() if self.last is not None:
                return self._accepted(fact)
            case f.Inferred() if self.last is not None and self.last.open:
                return self._inferred(self.last, fact, seq, time)
            case f.Done():
                return self._ended(fact, seq, time)
            case _:
                return self._of_step(fact, seq, time)
        return []

    def _submitted(self, fact: TaskSubmitted, seq: int, time: float) -> Change:
        given = fact.input
        messages = (InputMessage(role="user", content=given),) if isinstance(given, str) else given
        response = Response(
            Place(self._task),
            seq,
            time,
            terms_of(fact),
            fact.sampling,
            fact.metadata,
            messages,
            clients={tool.name for tool in fact.tools},
        )
        self.responses.append(response)
        return Change("created", response)

    def _accepted(self, fact: f.Accepted) -> list[Change]:
        response = self.responses[0]
        if response.status != "queued":
            return []
        response.status, response.sampling = "in_progress", fact.sampling
        return [Change("started", response)]

    def _inferred(
        self, response: Response, fact: f.Inferred, seq: int, time: float
    ) -> list[Change]:
        if any(fact.step <= turn.said.step for one in self.responses for turn in one.turns):
            return []  # the first result of a step has won
        turn = Turn(fact)
        response.turns.append(turn)
        return [Change("said", response, turn)]

    def _of_step(self, fact: Fact, seq: int, time: float) -> list[Change]:
        """A fact about a call of the last turn."""
        step = getattr(fact, "step", None)
        owner = next((one for one in reversed(self.responses) if one.turns), None)
        turn = owner.turns[-1] if owner is not None else None
        call = turn.call_at(step) if turn is not None and step is not None else None
        if owner is None or turn is None or call is None or call.id in turn.results:
            return []
        if isinstance(fact, f.Parked):
            if fact.reason == "client_tool":
                turn.parked.add(call.id)
            return self._perhaps_ended(owner, turn, seq, time)
        result = _result(fact, len(turn.results))
        if result is None:
            return []
        result.late = not owner.open
        turn.results[call.id] = result
        if owner.open:
            changes = [Change("result", owner, turn, call)]
            return changes + self._perhaps_ended(owner, turn, seq, time)
        return self._reopened(fact, call, seq, time)

    def _perhaps_ended(self, response: Response, turn: Turn, seq: int, time: float) -> list[Change]:
        waiting = turn.waits_for
        if not (response.open and waiting):
            return []
        response.waiting = waiting
        response.status, response.ended, response.end_seq = "completed", time, seq
        return [Change("ended", response)]

    def _reopened(self, fact: Fact, call: f.ToolCall, seq: int, time: float) -> list[Change]:
        """The first result after an end begins the next response; the others are part of it."""
        text = fact.result if isinstance(fact, f.Approved) else None
        message = InputMessage(role="tool", content=text or "", tool_call_id=call.id)
        if text is not None:
            self._answered[call.id] = text
        last = self.responses[-1]
        if last.open:
            last.input = (*last.input, message)
            return []
        new = fact.terms if isinstance(fact, f.Approved) else None
        terms, metadata = (new, new.metadata) if new else (last.terms, last.metadata)
        response = Response(
            Place(self._task, len(self.responses)),
            seq,
            time,
            terms,
            terms.sampling or last.sampling,
            metadata,
            (message,),
            "in_progress",
            clients={tool.name for tool in terms.tools},
        )
        self.responses.append(response)
        return [Change("created", response), Change("started", response)]

    def _ended(self, fact: f.Done, seq: int, time: float) -> list[Change]:
        self._done = True
        response = self.last
        if response is None or not response.open:
            return []
        response.ended, response.end_seq, response.error = time, seq, fact.error
        response.status = fact.status
        cut = response.turns and response.turns[-1].said.finish == "length"
        if fact.status == "completed" and cut:
            response.status = "incomplete"
        return [Change("ended", response)]


def _result(fact: Fact, order: int) -> Result | None:
    """What a fact gives a call as its result."""
    match fact:
        case f.ToolDone():
            return Result(fact.result, failed=False, order=order)
        case f.ToolFailed(retry=False):
            return Result(fact.error.detail or fact.error.code, failed=True, order=order)
        case f.Approved(result=str() as text):
            return Result(text, failed=False, order=order)
        case f.Rejected():
            return Result(f"not allowed: {fact.note}".rstrip(": "), failed=True, order=order)
        case f.TimerFired(timer="approval"):
            return Result("nobody answered in time", failed=True, order=order)
    return None


def responses_of(history: Iterable[StoredFact]) -> list[Response]:
    """All responses of a session, in the order in which they began."""
    folds: dict[str, TaskFold] = {}
    for stored in history:
        fold = folds.setdefault(stored.task, TaskFold(stored.task))
        fold.fact(stored.fact, stored.seq, stored.time)
    found = [response for fold in folds.values() for response in fold.responses]
    return sorted(found, key=lambda response: response.seq)
