"""Facts: what happened, in the past tense, appended to a session's log and never edited.

The kind of a fact is a token of its subject, so bodies carry no tag. `task` is the task id and
`step` its n-th step, counted from 0 over model and tool calls alike.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.contracts.agents import AgentSpec, Limits, LimitsPatch, Sampling
from shared.contracts.base import Message
from shared.contracts.tasks import NO_TERMS, InputMessage, TaskSubmitted, Terms
from shared.errors import Failure

Finish = Literal["stop", "length", "tool_calls", "aborted"]
Status = Literal["completed", "failed", "cancelled"]


class ToolCall(Message, frozen=True):
    """A call the model asked for. `arguments` is the JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


class Usage(Message, frozen=True):
    """Tokens. `cached` is the part of `input` that was served from a prefix cache, `reasoning` the
    part of `output` that the model spent on thinking.
    """

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input=self.input + other.input,
            cached=self.cached + other.cached,
            output=self.output + other.output,
            reasoning=self.reasoning + other.reasoning,
        )


class Timings(Message, frozen=True):
    """Milliseconds of one model call.

    `queued_ms` from the router's hand to the worker's start on it; from there, the writing of the
    prompt included, `first_token_ms` to the first token and `total_ms` to the last.
    """

    queued_ms: float = 0.0
    first_token_ms: float = 0.0
    total_ms: float = 0.0


class Accepted(Message, frozen=True):
    """The task starts: the agent revision, resolved limits and the absolute deadline (epoch s)."""

    task: str
    agent: AgentSpec
    revision: int
    limits: Limits
    sampling: Sampling
    deadline: float
    source: int
    """Sequence of the `task` fact that this accepts."""
    terms: Terms = NO_TERMS
    """What the task wants beside its input; its route is in `agent` already."""


class Leg(Message, frozen=True):
    """A part of a tool's work that another service did: when it began (after the tool itself) and
    how long it took, in milliseconds, with figures about it. Never with content.
    """

    name: Literal["retrieval"]
    start_ms: float = 0.0
    duration_ms: float = 0.0
    figures: dict[str, str | int] = msgspec.field(default_factory=dict)


class Inferred(Message, frozen=True):
    """A model answered: what it said, never the prompt it was given."""

    task: str
    step: int
    content: str = ""
    cuts: tuple[int, ...] = ()
    """Offsets (in characters) at which `content` was cut into token deltas."""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish = "stop"
    usage: Usage = msgspec.field(default_factory=Usage)
    price: int = 0
    """Millionths of a cent."""
    model: str = ""
    worker: str = ""
    attempt: int = 1
    timings: Timings = msgspec.field(default_factory=Timings)
    cached: bool = False
    stop_string: str | None = None
    """The one of `Sampling.stop` that ended it."""
    reasoning: str = ""
    """What the model thought before it answered; no later prompt holds it."""
    thought_cuts: tuple[int, ...] = ()
    """Offsets at which `reasoning` was cut into the deltas that came before those of `content`;
    what was thought behind the last of them was told by no delta."""
    placed: str = ""
    """Why the router chose this worker."""


class InferFailed(Message, frozen=True):
    """A model call ended without an answer."""

    task: str
    step: int
    error: Failure
    attempt: int = 1
    model: str = ""
    worker: str = ""
    """Whoever tried; empty where it came to none."""


class Totals(Message, frozen=True):
    """Sums over the steps of a task."""

    steps: int = 0
    infer_steps: int = 0
    tool_steps: int = 0
    usage: Usage = msgspec.field(default_factory=Usage)
    price: int = 0


class ToolDone(Message, frozen=True):
    """A tool returned. `result` is the text that the model reads."""

    task: str
    step: int
    call: str
    name: str
    result: str
    duration_ms: float = 0.0
    attempt: int = 1
    spent: Totals | None = None
    """What another agent used to answer; it counts for the limits, its own task pays."""
    legs: tuple[Leg, ...] = ()


class ToolFailed(Message, frozen=True):
    """A tool could not do it; the model reads the error as the call's result.

    With `retry` it is no result: the loop tries again, and the model never hears of it.
    """

    task: str
    step: int
    call: str
    name: str
    error: Failure
    duration_ms: float = 0.0
    attempt: int = 1
    spent: Totals | None = None
    retry: bool = False


class ToolStarted(Message, frozen=True):
    """A tool with side effects begins: from here on it may have happened. CAS 0 per attempt."""

    task: str
    step: int
    call: str
    name: str
    executor: str
    """Names the delivery that began it; only that one may go on."""
    attempt: int = 1


class Parked(Message, frozen=True):
    """A step, or with `budget` the task, waits for somebody. Time does not count meanwhile.

    That is a person, or with `client_tool` the client whose tool was called. `hold` numbers the
    limits that a task ran into; 0 where it is not about a limit.
    """

    task: str
    step: int
    reason: Literal["approval", "unknown_outcome", "budget", "client_tool"]
    detail: str = ""
    attempt: int = 1
    hold: int = 0


class Approved(Message, frozen=True):
    """A person lets a parked step go on, or a client says what its tool returned.

    `arguments` replaces what the model wrote; `result` says what the tool returned, so that it is
    not run; `limits` are the new bounds of a task that waited for its budget.
    """

    task: str
    step: int
    by: str = ""
    note: str = ""
    arguments: str | None = None
    result: str | None = None
    limits: LimitsPatch | None = None
    attempt: int = 1
    hold: int = 0
    terms: Terms | None = None
    """What the client wants from here on, where that is something else than before."""


class Rejected(Message, frozen=True):
    """A person does not let a parked step go on; the model reads the note as the call's error."""

    task: str
    step: int
    by: str = ""
    note: str = ""
    attempt: int = 1
    hold: int = 0


class Steered(Message, frozen=True):
    """Somebody says something to the running task; the model reads it before its next answer."""

    task: str
    id: str
    text: str
    by: str = ""


class Cancelled(Message, frozen=True):
    """Somebody asked for the task to stop."""

    task: str
    by: str = ""
    reason: str = ""


class TimerFired(Message, frozen=True):
    """A durable timer went off: of the task, or of the `attempt` that a step waits for."""

    task: str
    timer: Literal["deadline", "watch", "retry", "approval"]
    step: int | None = None
    attempt: int = 1
    hold: int = 0


class Done(Message, frozen=True):
    """The task has ended. Appended with CAS 0: the server refuses a second one."""

    task: str
    status: Status
    output: str = ""
    error: Failure | None = None
    totals: Totals = msgspec.field(default_factory=Totals)
    joined: str = ""
    """The running task that this one was said to (policy `steer`)."""


class Forked(Message, frozen=True):
    """The first fact of a session that goes on from a step of another one.

    What comes before it are the facts of `parent` up to sequence `at`, with the changes made here:
    they are read where they are, never copied. `task` runs on from `step`.
    """

    parent: str
    at: int
    task: str
    step: int
    agent: str = ""
    route: str = ""
    """The route of the task's further model calls; empty: as before."""
    input: str | None = None
    """What the task is asked instead."""
    results: dict[str, str] = msgspec.field(default_factory=dict)
    """Step -> what its tool is taken to have returned."""
    by: str = ""
    key: str = ""
    """The id of the API key that made the fork."""


class Noted(Message, frozen=True):
    """Something was set down in the session, and nobody was asked to answer. `note` names it.

    `messages` stand behind what was said before. What is `hidden` is shown to nobody any more:
    `<task or note>/in/<n>` is the n-th message of an input, `<task>/<step>/text` what a model said
    in a step, and `<task>/<step>/<n>` its n-th call with the result. `metadata` is the session's.
    """

    note: str
    messages: tuple[InputMessage, ...] = ()
    hidden: tuple[str, ...] = ()
    metadata: dict[str, str] | None = None
    """Absent: as before."""
    by: str = ""


class UsageLine(Message, frozen=True):
    """Model calls of one agent, model and UTC day, summed up: numbers without content."""

    agent: str
    model: str
    day: str
    calls: int
    usage: Usage
    price: int = 0
    """Millionths of a cent."""


class Deleted(Message, frozen=True):
    """The session was deleted: nothing up to the sequence `upto` may be shown or used any more.

    What lies there is purged; `usage` is what stays of it, for the bill.
    """

    upto: int
    by: str = ""
    usage: tuple[UsageLine, ...] = ()


class Completed(Message, frozen=True):
    """A stateless completion or embedding: one usage fact, no steps.

    With `error` it failed. What it used before that was computed, and is billed all the same.
    """

    id: str
    model: str
    worker: str
    usage: Usage
    price: int = 0
    timings: Timings = msgspec.field(default_factory=Timings)
    finish: Finish = "stop"
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    """What the client wrote beside its request, its `user` too."""
    route: str = ""
    """What the client asked for as `model`."""
    error: Failure | None = None
    key: str = ""
    """The id of the client's API key."""
    kind: Literal["completion", "embedding"] = "completion"


class Refused(Message, frozen=True):
    """Requests that came to nothing before a worker had them, or whose client did not wait.

    One fact for all of a minute at one replica that have the same code, route and key: a client
    that is refused a thousand times a second must not fill the log with it.
    """

    id: str
    code: str
    status: int
    """Of the answer, as HTTP has it."""
    route: str = ""
    """Method and path, with the names of parameters in the place of their values."""
    count: int = 1
    since: float = 0.0
    """Epoch seconds of the first of them, `until` of the last."""
    until: float = 0.0
    key: str = ""
    """The id of the API key."""


Fact = (
    TaskSubmitted
    | Accepted
    | Inferred
    | InferFailed
    | ToolDone
    | ToolFailed
    | ToolStarted
    | Parked
    | Approved
    | Rejected
    | Steered
    | Cancelled
    | TimerFired
    | Done
    | Forked
    | Noted
    | Deleted
    | Completed
    | Refused
)
