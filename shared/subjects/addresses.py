"""Every subject, and how it is made and read; nothing else spells one."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

from shared.contracts import facts as f
from shared.contracts.agents import Priority
from shared.contracts.base import Message, SessionRef, as_token, check_token
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent

PARTITIONS = 16
RUNS, WORK, TOKENS, TIMERS, DOCS, DEAD = "RUNS", "WORK", "TOKENS", "TIMERS", "DOCS", "DEAD"
BLOBS = "BLOBS"
DIRECT_SESSION = "_direct"
"""Reserved: the usage facts of stateless completions."""
SHARED_TENANT = "_shared"
"""Reserved: agents that every tenant may use. Names with a leading underscore are ours."""
MINUTE, DAY = 60.0, 86_400.0


@dataclass(frozen=True, slots=True)
class FactKind:
    """A row of the fact table. `unique` names the fields that give a fact a subject of its own:

    the server refuses a second one there (CAS 0). With `once` there is one for each session.
    """

    token: str
    type: type[Message]
    unique: tuple[str, ...] = ()
    once: bool = False

    @property
    def guarded(self) -> bool:
        """Whether the server refuses a second one."""
        return self.once or bool(self.unique)


FACT_KINDS = (
    FactKind("task", TaskSubmitted),
    FactKind("accepted", f.Accepted, unique=("task",)),
    FactKind("inferred", f.Inferred),
    FactKind("infer_failed", f.InferFailed),
    FactKind("tool_done", f.ToolDone),
    FactKind("tool_failed", f.ToolFailed),
    FactKind("tool_started", f.ToolStarted, unique=("task", "step", "attempt")),
    FactKind("parked", f.Parked),
    FactKind("approved", f.Approved),
    FactKind("rejected", f.Rejected),
    FactKind("steered", f.Steered),
    FactKind("cancelled", f.Cancelled),
    FactKind("timer", f.TimerFired),
    FactKind("done", f.Done, unique=("task",)),
    FactKind("forked", f.Forked, once=True),
    FactKind("noted", f.Noted),
    FactKind("deleted", f.Deleted),
    FactKind("completed", f.Completed),
    FactKind("refused", f.Refused),
)
BY_TOKEN = {kind.token: kind for kind in FACT_KINDS}
BY_TYPE: dict[type, FactKind] = {kind.type: kind for kind in FACT_KINDS}


@lru_cache(maxsize=4096)
def partition(tenant: str, session: str) -> int:
    """The partition of a session, as the server computes it: FNV-1a (32 bit) modulo 16.

    Source: `partition()` subject mapping function of nats-server, over the concatenated tokens.
    """
    digest = 0x811C9DC5
    for byte in (tenant + session).encode():
        digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest % PARTITIONS


def session_prefix(ref: SessionRef) -> str:
    """`run.<partition>.<tenant>.<session>`."""
    return f"run.{partition(ref.tenant, ref.session)}.{ref.tenant}.{ref.session}"


def session_filter(ref: SessionRef) -> str:
    """All facts of a session."""
    return f"{session_prefix(ref)}.>"


def partition_filter(ref: SessionRef) -> str:
    """All facts of the partition that a session belongs to."""
    return f"run.{partition(ref.tenant, ref.session)}.>"


FEED, DELTA = "feed", "delta"


def feed_filter(facts: str) -> str:
    """Where the facts of a filter of RUNS are republished as they are stored.

    The token deltas of the same sessions are as well, as `<session>.delta.<task>`: who hears both
    on one subscription hears them in their order.
    """
    return f"{FEED}{facts.removeprefix('run')}"


def forks_filter(tenant: str) -> str:
    """The `forked` facts of all sessions of a tenant."""
    return f"run.*.{tenant}.*.forked"


def ends_filter(tenant: str, task: str = "*") -> str:
    """The last facts of all tasks of a tenant, or of one whose session is not known."""
    return f"run.*.{tenant}.*.done.{task}"


def task_subject(ref: SessionRef, agent: str) -> str:
    """Where clients publish a task.

    Raises:
        Permanent: `invalid_name` for a tenant, agent or session that is not a token.
    """
    check_token(ref.tenant, "tenant")
    check_token(agent, "agent")
    check_session(ref.session)
    return f"tasks.{ref.tenant}.{agent}.{ref.session}"


def check_session(name: str) -> str:
    """`name`, if a client may give it to a session.

    Raises:
        Permanent: `invalid_name`.
    """
    if name.startswith("_"):
        raise Permanent("invalid_name", "names with a leading _ are reserved", field="session")
    return check_token(name, "session")


def fact_subject(ref: SessionRef, fact: Message) -> str:
    """Where a fact is appended; the task id is a token of it only where uniqueness needs it."""
    kind = BY_TYPE[type(fact)]
    base = f"{session_prefix(ref)}.{kind.token}"
    return ".".join([base, *(str(getattr(fact, name)) for name in kind.unique)])


@dataclass(frozen=True, slots=True)
class RunAddress:
    """A parsed subject of RUNS."""

    ref: SessionRef
    kind: str
    rest: str


def parse_run(subject: str) -> RunAddress:
    """`run.<p>.<tenant>.<session>.<fact>[.<rest>]`.

    Raises:
        Permanent: `invalid_subject`.
    """
    parts = subject.split(".", 5)
    if len(parts) < 5 or parts[0] != "run":
        raise Permanent("invalid_subject", f"{subject[:120]!r} is no subject of RUNS")
    return RunAddress(SessionRef(parts[2], parts[3]), parts[4], parts[5] if len(parts) == 6 else "")


# -- work, tokens, documents, control -----------------------------------------------------------

ROUTE = "work.route"
DIRECT_ROUTE = "direct.route"
SEARCH, EMBED, INDEX_STATE = "retrieval.search", "retrieval.embed", "retrieval.state"
INDEX_REBUILD = "retrieval.rebuild"
LEDGER_TASKS, LEDGER_USAGE = "ledger.tasks", "ledger.usage"
LEDGER_SESSIONS, LEDGER_REQUESTS = "ledger.sessions", "ledger.requests"
LEDGER_STATE, LEDGER_REBUILD = "ledger.state", "ledger.rebuild"


def snapshot_subject(ref: SessionRef) -> str:
    """Where the folded state of a session is kept: a shortcut for its owner, no fact."""
    return f"{session_prefix(ref)}.snapshot"


def member_subject(service: str, member: str) -> str:
    """Asks one process of a service whether it is there."""
    return f"member.{service}.{member}"


def infer_subject(model: str, worker: str) -> str:
    """A model call for one worker."""
    return f"work.infer.{as_token(model)}.w.{as_token(worker)}"


SHARES = 8
LANES = tuple(f"{kind}.{n}" for kind in get_args(Priority) for n in range(SHARES))
"""Where model calls wait that no worker has room for: those of a tenant in one lane for each

priority, so that a long line of one is not in the way of most others (stochastic fairness queueing,
McKenney, INFOCOM 1990). Workers take from all lanes in turn.
"""


def lane_of(tenant: str, priority: Priority) -> str:
    """The one of `LANES` for a tenant's model calls."""
    return f"{priority}.{zlib.crc32(tenant.encode()) % SHARES}"


def shared_infer_subject(model: str, lane: str) -> str:
    """A model call for whichever worker of a model has room first."""
    return f"work.infer.{as_token(model)}.any.{lane}"


def prefixes_subject(model: str, worker: str) -> str:
    """Core NATS: what has changed in a worker's prefix cache."""
    return f"prefixes.{as_token(model)}.{as_token(worker)}"


def prefixes_request(worker: str) -> str:
    """Core NATS, request: all that a worker's prefix cache holds."""
    return f"holds.{as_token(worker)}"


def direct_subject(worker: str) -> str:
    """A stateless completion for one worker."""
    return f"direct.infer.{as_token(worker)}"


def tool_subject(name: str) -> str:
    """A tool call."""
    return f"work.tool.{as_token(name)}"


def abort_subject(ref: SessionRef, task: str) -> str:
    """Core NATS: stop whatever runs for this task, now."""
    return f"cancel.{ref.tenant}.{ref.session}.{task}"


ENDED = "ended.*.*"
"""Ends of sessions, for whoever keeps something for the next step of one."""


def ended_subject(ref: SessionRef) -> str:
    """Core NATS, a hint: nobody comes back to this session."""
    return f"ended.{ref.tenant}.{ref.session}"


def tokens_subject(ref: SessionRef, task: str) -> str:
    """Token deltas of a task; the stream republishes them on `feed.>`."""
    return f"tokens.{ref.tenant}.{ref.session}.{task}"


def document_subject(tenant: str, collection: str, document: str) -> str:
    """One subject per document; an id that is no token is hashed."""
    check_token(tenant, "tenant")
    check_token(collection, "collection")
    return f"docs.{tenant}.{collection}.{as_token(document)}"


def blob_subject(owner: SessionRef, key: str, part: int) -> str:
    """A part of a body that is too large for a message."""
    return f"blob.{owner.tenant}.{owner.session}.{key}.{part}"


def blob_filter(owner: SessionRef, key: str = "*") -> str:
    """The parts of one body, or of everything that an owner has."""
    return f"blob.{owner.tenant}.{owner.session}.{key}.*"


def document_owner(tenant: str, collection: str, document: str) -> SessionRef:
    """In the place of a session: who owns the large text of a document."""
    place = f"{collection}/{as_token(document)}".encode()
    return SessionRef(tenant, f"_doc-{hashlib.blake2b(place, digest_size=16).hexdigest()}")


def parse_document(subject: str) -> tuple[str, str]:
    """Tenant and collection of `docs.<tenant>.<collection>.<document>`.

    Raises:
        Permanent: `invalid_subject`.
    """
    parts = subject.split(".")
    if len(parts) != 4 or parts[0] != "docs":
        raise Permanent("invalid_subject", f"{subject[:120]!r} is no subject of DOCS")
    return parts[1], parts[2]


def control_subject(ref: SessionRef, verb: str) -> str:
    """Requests that change a running session."""
    return f"control.{ref.tenant}.{ref.session}.{verb}"


def timer_subject(ref: SessionRef, task: str, timer: str) -> str:
    """A durable timer: one subject is one schedule."""
    return f"timer.{session_prefix(ref)[4:]}.{task}.{timer}"


def fired_subject(ref: SessionRef, task: str, timer: str) -> str:
    """Where the timer's message arrives."""
    return f"fired.{session_prefix(ref)[4:]}.{task}.{timer}"


SCHEDULES = "_schedules"
"""Reserved: in the place of the session in the subjects of a tenant's schedules."""


def schedule_subject(tenant: str, name: str) -> str:
    """A schedule. The session is no part of it: a name stands for one schedule of a tenant."""
    return timer_subject(SessionRef(check_token(tenant, "tenant"), SCHEDULES), name, "schedule")


def due_subject(tenant: str, name: str) -> str:
    """Where a schedule's message arrives each time that it fires."""
    return fired_subject(SessionRef(check_token(tenant, "tenant"), SCHEDULES), name, "schedule")


def parse_due(subject: str) -> tuple[str, str] | None:
    """Tenant and name of a schedule that fired; None for any other timer."""
    parts = subject.split(".")
    if len(parts) != 6 or parts[0] != "fired" or parts[3] != SCHEDULES:
        return None
    return parts[2], parts[4]


def replay_subject(ref: SessionRef) -> str:
    """Requests to decide the log of a session once more."""
    return f"replay.{ref.tenant}.{ref.session}"


NOBODY = "_"
"""Stands for the tenant or session of a dead letter that belongs to none."""


@dataclass(frozen=True, slots=True)
class Grave:
    """The address of a dead letter: whose it is, who gave up on it, and the original's place.

    `stamp` is the original's time in milliseconds: a stream in memory counts from 1 again after a
    restart of its server.
    """

    owner: SessionRef
    consumer: str
    stream: str
    sequence: int
    stamp: int

    @property
    def subject(self) -> str:
        """A subject of its own: the server refuses a second letter about the same thing."""
        whose = f"{as_token(self.owner.tenant)}.{as_token(self.owner.session)}"
        place = f"{as_token(self.stream)}.{self.sequence}.{self.stamp}"
        return f"dead.{whose}.{as_token(self.consumer)}.{place}"


def parse_grave(subject: str) -> Grave:
    """The address in the subject of a dead letter.

    Raises:
        Permanent: `invalid_subject`.
    """
    parts = subject.split(".")
    if len(parts) != 7 or parts[0] != "dead" or not (parts[5] + parts[6]).isdecimal():
        raise Permanent("invalid_subject", f"{subject[:120]!r} is no dead letter")
    owner = SessionRef(parts[1], parts[2])
    return Grave(owner, parts[3], parts[4], int(parts[5]), int(parts[6]))


def dead_filter(tenant: str = "*", session: str = "*", consumer: str = "*") -> str:
    """Dead letters of a tenant, a session, a consumer."""
    return f"dead.{tenant}.{session}.{consumer}.>"


def letters_about(consumer: str, stream: str, sequence: int) -> str:
    """Every letter of a consumer about the message at a place of a stream."""
    return f"dead.*.*.{as_token(consumer)}.{as_token(stream)}.{sequence}.*"


def retried_subject(grave: Grave) -> str:
    """Where it is noted that a dead letter was sent again."""
    return f"retried.{grave.subject.removeprefix('dead.')}"


def owner_in(subject: str) -> SessionRef | None:
    """Whose a message is, as far as its subject tells."""
    parts = subject.split(".")
    match parts[0]:
        case "run" | "timer" | "fired" if len(parts) > 3:
            return SessionRef(parts[2], parts[3])
        case "tasks" if len(parts) == 4:
            return SessionRef(parts[1], parts[3])
        case "docs" if len(parts) > 1:
            return SessionRef(parts[1], NOBODY)
    return None


def owner_of(subject: str) -> SessionRef | None:
    """Who owns the large body of a message: the session, or the document."""
    parts = subject.split(".")
    if parts[0] == "docs" and len(parts) == 4:
        return document_owner(*parts[1:])
    return owner_in(subject)
