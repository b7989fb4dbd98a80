"""Questions to the ledger (core request/reply) and their answers: recent tasks, usage, cost."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.contracts.base import Message
from shared.contracts.facts import Usage
from shared.errors import Failure

TaskState = Literal["queued", "running", "parked", "completed", "failed", "cancelled"]
UsageKey = Literal["day", "agent", "model", "session", "task"]


class TasksQuery(Message, frozen=True):
    """`ledger.tasks`: tasks of a tenant, newest first. `before` pages on by submission sequence."""

    tenant: str
    session: str | None = None
    status: TaskState | None = None
    task: str | None = None
    limit: int = 20
    before: int = 0


class TaskSummary(Message, frozen=True):
    """A task as the ledger knows it. Times are epoch seconds, 0 for what has not happened yet.

    `price` is in millionths of a cent. Until `done`, the sums run over the results so far.
    """

    task: str
    session: str
    agent: str
    status: TaskState
    sequence: int
    """Of the submission; the `before` of the next page."""
    submitted: float
    accepted: float = 0.0
    done: float = 0.0
    queue_ms: float = 0.0
    revision: int = 0
    steps: int = 0
    infer_steps: int = 0
    tool_steps: int = 0
    usage: Usage = msgspec.field(default_factory=Usage)
    price: int = 0
    error_code: str = ""
    input: str = ""
    output: str = ""


class TasksReply(Message, frozen=True):
    """`sequence` is the highest position of the log that the ledger has seen."""

    tasks: tuple[TaskSummary, ...] = ()
    sequence: int = 0
    error: Failure | None = None


class UsageQuery(Message, frozen=True):
    """`ledger.usage`: tokens and money of a tenant, grouped. `since` is a UTC day, inclusive."""

    tenant: str
    by: UsageKey = "day"
    session: str | None = None
    since: str = ""
    limit: int = 100


class UsageSummary(Message, frozen=True):
    """One group: model calls, tokens and money. The agent of a stateless completion is ''."""

    key: str
    calls: int
    usage: Usage
    price: int = 0


class UsageReply(Message, frozen=True):
    """Groups (days in order, the others by size) and the total over all of them."""

    rows: tuple[UsageSummary, ...] = ()
    total: UsageSummary | None = None
    sequence: int = 0
    error: Failure | None = None
