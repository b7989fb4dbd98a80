"""The state of a session: what the fold of its facts remembers."""

from __future__ import annotations

import msgspec

from shared.contracts.base import Message, SessionRef
from shared.contracts.facts import Accepted, Status, ToolCall, Totals
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Failure


class Queued(Message, frozen=True):
    """A task that has not started. `refusal` is set where it never can."""

    task: str
    agent: str
    seq: int
    trace_id: str
    submitted: TaskSubmitted | None
    refusal: Failure | None = None
    cancelled: bool = False


class Pending(Message, frozen=True):
    """A step that was decided and has no result. `seq` is the log position it builds on."""

    step: int
    seq: int
    call: ToolCall | None = None


class Running(Message, frozen=True):
    """The task that the session works on."""

    accepted: Accepted
    trace_id: str
    next_step: int = 1
    pending: tuple[Pending, ...] = ()
    totals: Totals = msgspec.field(default_factory=Totals)
    output: str = ""
    verdict: Status | None = None
    error: Failure | None = None

    @property
    def task(self) -> str:
        """The task's id."""
        return self.accepted.task


class SessionState(Message, frozen=True):
    """All that the loop needs to know of a session, as of sequence `seq`."""

    ref: SessionRef
    seq: int = 0
    queue: tuple[Queued, ...] = ()
    running: Running | None = None
    ended: frozenset[str] = frozenset()

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return self.running is None and not self.queue
