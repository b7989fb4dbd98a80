"""The state of a session: what the fold of its facts remembers."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.contracts.agents import Limits, Priority
from shared.contracts.base import Message, SessionRef
from shared.contracts.facts import Accepted, Status, ToolCall, Totals
from shared.contracts.tasks import NO_TERMS, Parent, TaskSubmitted, Terms
from shared.errors import Failure


class Queued(Message, frozen=True):
    """A task that has not started. `refusal` is set where it never can.

    `join` names the running task that it shall be said to, `joined` the one that it was said to.
    """

    task: str
    agent: str
    seq: int
    trace_id: str
    submitted: TaskSubmitted | None
    refusal: Failure | None = None
    cancelled: bool = False
    join: str = ""
    joined: str = ""
    key: str = ""
    """The id of the API key that it came with."""


class Pending(Message, frozen=True):
    """A step that was decided and has no result. `seq` is the log position it builds on.

    After a failure it waits until `due` (the log's clock) for its next `attempt`; `tries` failures
    were met at the present target of the route, and `skip` targets were given up.
    """

    step: int
    seq: int
    asked: float = 0.0
    """When this attempt was decided (the log's clock)."""
    call: ToolCall | None = None
    attempt: int = 1
    tries: int = 0
    skip: int = 0
    due: float | None = None
    error: Failure | None = None
    parked: Literal["approval", "unknown_outcome", "client_tool"] | None = None
    parked_at: float = 0.0
    approved: bool = False


class Hold(Message, frozen=True):
    """The task ran into a limit and waits for a higher one, before these calls or a model call."""

    error: Failure
    number: int
    calls: tuple[ToolCall, ...] = ()
    parked_at: float | None = None
    """When the log said so; None until then."""


class Running(Message, frozen=True):
    """The task that the session works on. Times are of the log's clock, in epoch seconds."""

    accepted: Accepted
    trace_id: str
    limits: Limits
    since: int = 0
    """The log position of its acceptance."""
    started: float = 0.0
    deadline: float = 0.0
    watched: float = 0.0
    """When somebody last made sure that the task has not been forgotten."""
    waiting_since: float | None = None
    """Since when it waits for a person or its client."""
    next_step: int = 1
    pending: tuple[Pending, ...] = ()
    hold: Hold | None = None
    holds: int = 0
    steers: tuple[str, ...] = ()
    unheard: bool = False
    """Something was said that the model call in flight does not know."""
    fresh: bool = False
    """No model has answered yet to what the client said last."""
    last_calls: str = ""
    repeats: int = 0
    parent: Parent | None = None
    key: str = ""
    """The id of the API key that it came with; those whom it asks work for the same."""
    delegated: tuple[int, ...] = ()
    """Steps that other agents work on."""
    served: str = ""
    """The worker of the session's last model call."""
    spent: Totals = msgspec.field(default_factory=Totals)
    """What those agents have used: it counts for the limits, not for the bill of this task."""
    totals: Totals = msgspec.field(default_factory=Totals)
    output: str = ""
    verdict: Status | None = None
    error: Failure | None = None

    @property
    def task(self) -> str:
        """The task's id."""
        return self.accepted.task

    @property
    def priority(self) -> Priority:
        """Whether somebody waits for it: the task says so itself, or its agent does."""
        return self.accepted.terms.priority or self.accepted.agent.priority


class Ended(Message, frozen=True):
    """The latest task that ended, with the agent it asked for."""

    task: str
    agent: str
    status: Status
    terms: Terms = NO_TERMS
    """On which a task that goes on with it works."""


class SessionState(Message, frozen=True):
    """All that the loop needs to know of a session, as of sequence `seq`."""

    ref: SessionRef
    seq: int = 0
    queue: tuple[Queued, ...] = ()
    running: Running | None = None
    ended: frozenset[str] = frozenset()
    latest: Ended | None = None
    served: str = ""
    """As of the last task that ended."""

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return self.running is None and not self.queue
