"""Questions to the ledger (core request/reply) and their answers: recent tasks, usage, cost.

With `min_seq` a client reads its own writes: the answer waits, `patience_s` at most, until the
ledger has applied the log up to there. Times are epoch seconds, money is in millionths of a cent.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.contracts.base import Message
from shared.contracts.facts import Usage
from shared.errors import Failure

TaskState = Literal["queued", "running", "parked", "completed", "failed", "cancelled"]
SessionState = Literal["running", "idle"]
UsageKey = Literal["tenant", "day", "agent", "model", "session", "task", "key"]
RequestKind = Literal["task", "completion", "embedding", "refused"]
PATIENCE = 5.0


class TasksQuery(Message, frozen=True):
    """`ledger.tasks`: tasks of a tenant, newest first. `before` pages on by submission sequence."""

    tenant: str
    session: str | None = None
    status: TaskState | None = None
    task: str | None = None
    limit: int = 20
    before: int = 0
    agent: str | None = None
    since: float = 0.0
    """Submitted then or later; `until` before then, 0 for no end."""
    until: float = 0.0
    min_seq: int = 0
    patience_s: float = PATIENCE


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
    rebuilding: bool = False
    """The ledger reads the log again: something may be missing until it has."""


class SessionsQuery(Message, frozen=True):
    """`ledger.sessions`: sessions of a tenant, the one that was touched last first."""

    tenant: str
    agent: str | None = None
    """Of any of its tasks."""
    state: SessionState | None = None
    since: float = 0.0
    """Touched then or later."""
    limit: int = 20
    before: int = 0
    min_seq: int = 0
    patience_s: float = PATIENCE


class SessionSummary(Message, frozen=True):
    """A session: `running` while a task of it has not ended."""

    session: str
    state: SessionState
    sequence: int
    """Of the last fact that touched it; the `before` of the next page."""
    opened: float
    touched: float
    agent: str = ""
    """Of its newest task."""
    tasks: int = 0
    open_tasks: int = 0


class SessionsReply(Message, frozen=True):
    """A page."""

    sessions: tuple[SessionSummary, ...] = ()
    sequence: int = 0
    error: Failure | None = None
    rebuilding: bool = False
    """The ledger reads the log again: something may be missing until it has."""


class RequestsQuery(Message, frozen=True):
    """`ledger.requests`: tasks, completions, embeddings and what was refused, newest first."""

    tenant: str
    id: str | None = None
    kind: RequestKind | None = None
    session: str | None = None
    agent: str | None = None
    model: str | None = None
    status: TaskState | None = None
    since: float = 0.0
    until: float = 0.0
    min_ms: float = 0.0
    """Ended, and took at least so long."""
    text: str = ""
    """Within the beginning of a task's input or output; completions leave no text behind."""
    limit: int = 20
    before: int = 0
    min_seq: int = 0
    patience_s: float = PATIENCE


class RequestLine(Message, frozen=True):
    """One request as the facts tell it, or `count` of them that were `refused` alike.

    The model and worker of a task are those of its last model call, its tokens and money those of
    all its model calls with a result. `latency_ms` is 0 until it has ended.
    """

    id: str
    kind: RequestKind
    sequence: int
    """The `before` of the next page."""
    time: float
    status: TaskState
    session: str = ""
    agent: str = ""
    route: str = ""
    model: str = ""
    worker: str = ""
    error_code: str = ""
    usage: Usage = msgspec.field(default_factory=Usage)
    price: int = 0
    latency_ms: float = 0.0
    first_token_ms: float = 0.0
    """From the submission to the first token of the first model call."""
    trace_id: str = ""
    user: str = ""
    key: str = ""
    """The id of the API key that was used, where there are keys."""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    count: int = 1
    until: float = 0.0
    """When the last of several was refused."""
    http_status: int = 0
    """What the refused were answered with."""


class RequestsReply(Message, frozen=True):
    """A page."""

    requests: tuple[RequestLine, ...] = ()
    sequence: int = 0
    error: Failure | None = None
    rebuilding: bool = False
    """The ledger reads the log again: something may be missing until it has."""


class UsageQuery(Message, frozen=True):
    """`ledger.usage`: tokens and money of a tenant, grouped. `since` is a UTC day, inclusive."""

    tenant: str
    by: UsageKey = "day"
    session: str | None = None
    since: str = ""
    limit: int = 100
    keys: tuple[UsageKey, ...] = ()
    """Several at once; empty: `by` alone."""
    agent: str | None = None
    model: str | None = None
    task: str | None = None
    until: str = ""
    """A UTC day, inclusive too."""
    upto: int = 0
    """Only what comes from facts up to this sequence."""
    offset: int = 0
    min_seq: int = 0
    patience_s: float = PATIENCE
    key: str | None = None
    """The id of an API key. What deleted sessions used belongs to none any more."""
    times: bool = True
    """Whether the times of the calls are asked for: they have to be put in order."""

    @property
    def grouping(self) -> tuple[UsageKey, ...]:
        """What to group by."""
        return tuple(dict.fromkeys(self.keys)) or (self.by,)


class Latency(Message, frozen=True):
    """Milliseconds of model calls from a worker's start on them to their last token.

    Percentiles are values that occurred (nearest rank). `count` leaves out deleted sessions, whose
    times are gone.
    """

    count: int = 0
    mean_ms: float = 0.0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    max_ms: float = 0.0


NO_TIMES = Latency()


class UsageSummary(Message, frozen=True):
    """One group: model calls, tokens and money. The agent of a stateless completion is ''."""

    key: str
    """The values of the grouping, with `/` between several; `names` has them one by one."""
    calls: int
    usage: Usage
    price: int = 0
    names: dict[str, str] = msgspec.field(default_factory=dict)
    latency: Latency = NO_TIMES


class UsageReply(Message, frozen=True):
    """Groups and the total over all of them, shown or not.

    Days alone are in order and the newest are shown; with a day among others the newest comes
    first; all else is by size.
    """

    rows: tuple[UsageSummary, ...] = ()
    total: UsageSummary | None = None
    sequence: int = 0
    error: Failure | None = None
    more: bool = False
    """There are groups beyond `offset` and `limit`."""
    rebuilding: bool = False
    """The ledger reads the log again: sums are too low until it has."""


class LedgerQuery(Message, frozen=True):
    """`ledger.state`: how far the projection is."""

    min_seq: int = 0
    patience_s: float = PATIENCE


class RebuildLedger(Message, frozen=True):
    """`ledger.rebuild`: drop every row and read the log again, while facts go on coming in."""

    forget: bool = False
    """Even if the log does not reach back as far as the ledger does."""


class LedgerState(Message, frozen=True):
    """Where the projection stands; the answer to a rebuild comes once the rows are dropped."""

    sequence: int = 0
    settled: int = 0
    """Every fact up to here is applied, unless it is `replaying`."""
    replaying: bool = False
    replay_from: int = 0
    replay_until: int = 0
    error: Failure | None = None
