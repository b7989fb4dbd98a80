"""What travels on each subject: addresses with names for their tokens, bodies, answers, headers.

Facts and their republished copies come from the fact table, questions of tenants' clients from
theirs; the rest is said here, and tests hold it against the functions that make the subjects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.bus.claims import CLAIM
from shared.contracts import asks, control, ledger, retrieval
from shared.contracts.agents import AgentSpec, ToolSpec
from shared.contracts.base import Message
from shared.contracts.claims import Claimed, ClaimedRequest
from shared.contracts.dead import DeadLetter, Retried
from shared.contracts.documents import DocumentChanged
from shared.contracts.keys import Allowance, ApiKey
from shared.contracts.log import ATTEMPT_HEADER, KEY_HEADER, MSG_ID, TASK_HEADER
from shared.contracts.prefixes import PrefixChange
from shared.contracts.replay import ReplayQuery, ReplayReply
from shared.contracts.schedules import Schedule
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.tokens import DirectEvent, TokenDelta
from shared.contracts.work import DirectRequest, InferStep, RouteStep, RunTool
from shared.contracts.workers import WorkerState
from shared.subjects import (
    ADVISORIES,
    AFFINITY,
    AGENTS,
    CHECKPOINTS,
    DELTA,
    DIRECT_ROUTE,
    EMBED,
    FACT_KINDS,
    FEED,
    INDEX_REBUILD,
    INDEX_STATE,
    KEYS,
    LEDGER_REBUILD,
    LEDGER_REQUESTS,
    LEDGER_SESSIONS,
    LEDGER_STATE,
    LEDGER_TASKS,
    LEDGER_USAGE,
    MEMBERS,
    MEMORY,
    MODELS,
    REQUESTS,
    ROUTE,
    SCHEDULES,
    SEARCH,
    TENANTS,
    TOOL_SPECS,
    WORKERS,
    Bucket,
    FactKind,
)
from shared.trace import TRACEPARENT

_FACT = (MSG_ID, TASK_HEADER, ATTEMPT_HEADER, TRACEPARENT)
_WORK = (MSG_ID, TASK_HEADER, TRACEPARENT)


@dataclass(frozen=True, slots=True)
class Channel:
    """A subject, or all that differ in the tokens in braces only."""

    address: str
    about: str
    bodies: tuple[type, ...] = ()
    answers: tuple[type, ...] = ()
    plain: str = ""
    """What a body is that is no message of the contracts; `empty` for none."""
    headers: tuple[str, ...] = ()
    large: type | None = None
    """What stands in the place of a body that is too large for a message."""
    answered: str = ""
    """The text of an answer that is no message of the contracts."""

    @property
    def name(self) -> str:
        """The address without its parameters."""
        return ".".join(
            part.lstrip("$").lower() if part.startswith("$") else part
            for part in self.address.split(".")
            if not part.startswith("{")
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the tokens in braces, in order."""
        parts = self.address.split(".")
        return tuple(part[1:-1] for part in parts if part.startswith("{"))

    @property
    def pattern(self) -> str:
        """The address as the server sees it."""
        parts = self.address.split(".")
        return ".".join("*" if part.startswith("{") else part for part in parts)


PARAMETERS = {
    "tenant": "whose it is",
    "agent": "which agent is asked; in a bucket `<owner>.<agent>`",
    "session": "the conversation; names with a leading _ are reserved",
    "partition": "0 to 15, of tenant and session; at a hub the name of a site, for its copies",
    "task": "the id of a task",
    "step": "the number of a step within its task",
    "attempt": "1 for the first",
    "timer": "what the timer is for",
    "name": "of a schedule",
    "model": "a model of the models file, as a token",
    "worker": "an inference worker, as a token",
    "priority": "of the task's model calls",
    "share": "which of a priority's lanes",
    "tool": "the name of a tool, as a token",
    "collection": "of documents",
    "document": "the id of a document, as a token",
    "owner": "a session, or what stands in its place for a document",
    "key": "the key of an entry, or of a stored body",
    "part": "which part of a stored body, from 0",
    "consumer": "who gave up",
    "stream": "where the original lies",
    "sequence": "of the original there",
    "stamp": "when the original was stored, in milliseconds",
    "service": "the name of a service",
    "member": "a process of a service",
}
"""What the tokens mean."""

HEADERS: dict[str, dict[str, Any]] = {
    MSG_ID: {
        "type": "string",
        "description": "What the server knows a repetition by. A task without Millrace-Task has "
        "this as its id.",
    },
    TASK_HEADER: {"type": "string", "description": "The id of the task that it is about."},
    ATTEMPT_HEADER: {
        "type": "string",
        "pattern": "^[0-9]+$",
        "description": "Of the step; 1 for the first.",
    },
    KEY_HEADER: {"type": "string", "description": "The id of the API key that it came with."},
    TRACEPARENT: {"type": "string", "description": "W3C trace context."},
    CLAIM: {
        "type": "string",
        "const": "1",
        "description": "The body says where the real one lies: in parts in stream BLOBS.",
    },
}
"""Every header of a message; all are optional to who reads."""


def channels() -> tuple[Channel, ...]:
    """All of them, the ways in first."""
    return (*_tasks(), *_facts(), *_work(), *_kept(), *_questions(), *_signals(), *_buckets())


def _tasks() -> Iterator[Channel]:
    yield Channel(
        "tasks.{tenant}.{agent}.{session}",
        "Submits a task; stored as the fact `task` of its session.",
        (TaskSubmitted,),
        headers=(*_WORK, KEY_HEADER),
        large=Claimed,
    )
    place = "control.{tenant}.{session}"
    for verb, kind in _VERBS.items():
        reply = control.DeleteReply if verb == "delete" else control.ControlReply
        about = _after_address(kind)
        yield Channel(f"{place}.{verb}", about, (kind,), (reply,), large=Claimed)


_VERBS: dict[str, type[Message]] = {
    "cancel": control.CancelTask,
    "steer": control.SteerTask,
    "approve": control.ApproveStep,
    "reject": control.RejectStep,
    "result": control.GiveResult,
    "retry": control.RetryTask,
    "fork": control.ForkSession,
    "note": control.NoteSession,
    "delete": control.DeleteSession,
}


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _after_address(kind: type) -> str:
    """What a request is for; its docstring begins with the end of its address."""
    text = _first_line(kind).partition(": ")[2]
    return text[:1].upper() + text[1:]


def _facts() -> Iterator[Channel]:
    place = "{partition}.{tenant}.{session}"
    for kind in FACT_KINDS:
        token = _fact_token(kind)
        more = (KEY_HEADER,) if kind.type is TaskSubmitted else ()
        about = f"Fact: {_first_line(kind.type)}"
        headers = (*_FACT, *more)
        yield Channel(f"run.{place}.{token}", about, (kind.type,), headers=headers, large=Claimed)
        yield Channel(
            f"{FEED}.{place}.{token}",
            f"The fact `{kind.token}`, republished by the server when it is stored.",
            (kind.type,),
            headers=headers,
            large=Claimed,
        )
    snapshot = "The folded state of a session: a shortcut of its owner, no fact."
    yield Channel(f"run.{place}.snapshot", snapshot, plain=snapshot)
    yield Channel(f"{FEED}.{place}.snapshot", "The same, republished.", plain=snapshot)
    headers = (TASK_HEADER, ATTEMPT_HEADER, TRACEPARENT)
    said = "Text as the model says it; the fact of the step brings it again."
    yield Channel("tokens.{tenant}.{session}.{task}", said, (TokenDelta,), headers=headers)
    yield Channel(
        f"{FEED}.{place}.{DELTA}.{{task}}",
        "Token deltas, republished between the facts of their session.",
        (TokenDelta,),
        headers=headers,
    )


def _fact_token(kind: FactKind) -> str:
    """A task names its agent, a fact with a subject of its own what makes it unique."""
    names = ("agent",) if kind.type is TaskSubmitted else kind.unique
    return ".".join((kind.token, *(f"{{{name}}}" for name in names)))


def _work() -> Iterator[Channel]:
    yield Channel(ROUTE, "A step that needs a model.", (RouteStep,), headers=_WORK)
    infer = "work.infer.{model}"
    one, any_ = "A model call for one worker.", "A model call for whoever has room first."
    yield Channel(f"{infer}.w.{{worker}}", one, (InferStep,), headers=_WORK)
    yield Channel(f"{infer}.any.{{priority}}.{{share}}", any_, (InferStep,), headers=_WORK)
    yield Channel("work.tool.{tool}", "A tool call.", (RunTool,), headers=_WORK)
    for address, about in (
        (DIRECT_ROUTE, "A stateless completion or embedding, to be placed."),
        ("direct.infer.{worker}", "The same for one worker; the events go to the inbox."),
    ):
        answer = (DirectEvent, Claimed)
        yield Channel(
            address, about, (DirectRequest,), answer, headers=(TRACEPARENT,), large=ClaimedRequest
        )


def _kept() -> Iterator[Channel]:
    change = "A document as it is now; one subject holds its newest version."
    yield Channel(
        "docs.{tenant}.{collection}.{document}", change, (DocumentChanged,), large=Claimed
    )
    part = "A part of a body that is too large for a message."
    yield Channel("blob.{tenant}.{owner}.{key}.{part}", part, plain="bytes")
    grave = "{tenant}.{session}.{consumer}.{stream}.{sequence}.{stamp}"
    letter = "A message that nobody could process."
    yield Channel(f"dead.{grave}", letter, (DeadLetter,), headers=(MSG_ID,))
    again = "A dead letter was sent again."
    yield Channel(f"retried.{grave}", again, (Retried,), headers=(MSG_ID,))
    place, plan = "{partition}.{tenant}.{session}.{task}.{timer}", "{name}.schedule"
    plans = f"{{partition}}.{{tenant}}.{SCHEDULES}.{plan}"
    durable = "A durable timer of a task (`Nats-Schedule`)."
    yield Channel(f"timer.{place}", durable, (Message,), headers=(TASK_HEADER,))
    yield Channel(f"fired.{place}", "A timer fired.", (Message,), headers=(TASK_HEADER,))
    yield Channel(f"timer.{plans}", "A schedule (`Nats-Schedule`).", (Schedule,))
    yield Channel(f"fired.{plans}", "A schedule fired.", (Schedule,))
    for pattern in ADVISORIES:
        event = pattern.split(".")[-2]
        address = f"{pattern.removesuffix('>')}{{stream}}.{{consumer}}"
        yield Channel(address, f"The server's own advisory {event}.", plain="advisory (NATS)")


_ASKED: dict[str, tuple[type[Message], type[Message]]] = {
    "read": (asks.ReadStored, asks.StoredPage),
    "last": (asks.LastStored, asks.StoredPage),
    "latest": (asks.LatestStored, asks.StoredPage),
    "at": (asks.StoredAt, asks.StoredPage),
    "piece": (asks.StoredPiece, asks.PieceReply),
    "place": (asks.CheckPlace, asks.Answered),
    "sessions": (asks.ListSessions, asks.SessionsPage),
    "search": (asks.SearchDocuments, retrieval.SearchReply),
}

_REQUESTS: dict[str, tuple[str, type[Message], type[Message]]] = {
    SEARCH: ("Passages of documents.", retrieval.SearchRequest, retrieval.SearchReply),
    EMBED: ("Vectors of texts.", retrieval.EmbedRequest, retrieval.EmbedReply),
    INDEX_STATE: ("How far the index is.", Message, retrieval.IndexState),
    INDEX_REBUILD: ("Empties the index and fills it again.", Message, retrieval.IndexState),
    LEDGER_TASKS: ("Tasks.", ledger.TasksQuery, ledger.TasksReply),
    LEDGER_SESSIONS: ("Sessions.", ledger.SessionsQuery, ledger.SessionsReply),
    LEDGER_REQUESTS: ("The request log.", ledger.RequestsQuery, ledger.RequestsReply),
    LEDGER_USAGE: ("Usage, summed up.", ledger.UsageQuery, ledger.UsageReply),
    LEDGER_STATE: ("How far the ledger is.", ledger.LedgerQuery, ledger.LedgerState),
    LEDGER_REBUILD: ("Reads the log again.", ledger.RebuildLedger, ledger.LedgerState),
    "replay.{tenant}.{session}": ("Decides a log again.", ReplayQuery, ReplayReply),
}


def _questions() -> Iterator[Channel]:
    for what, (question, reply) in _ASKED.items():
        about = f"A tenant's own client asks. {_after_address(question)}"
        answers = (reply,) if reply is asks.Answered else (reply, asks.Answered)
        yield Channel(f"ask.{{tenant}}.{what}", about, (question,), answers)
    for address, (about, question, reply) in _REQUESTS.items():
        yield Channel(address, about, (question,), (reply,))


def _signals() -> Iterator[Channel]:
    empty, told = "empty", "ok"
    yield Channel("health.{service}", "Is it ready?", plain=empty, answered=told)
    yield Channel("member.{service}.{member}", "Is it there?", plain=empty, answered=told)
    yield Channel("cancel.{tenant}.{session}.{task}", "Stop what runs for it, now.", plain=empty)
    yield Channel("ended.{tenant}.{session}", "Nobody comes back to it: a hint.", plain=empty)
    changed = "What has changed in a worker's prefix cache."
    yield Channel("prefixes.{model}.{worker}", changed, (PrefixChange,))
    whole = "All that a worker's prefix cache holds, in one answer or several."
    yield Channel("holds.{worker}", whole, plain=empty, answers=(PrefixChange,))


_BUCKETS: tuple[tuple[Bucket, str, str, type | None], ...] = (
    (AGENTS, "{owner}.{agent}", "Agents, by their owner and name.", AgentSpec),
    (MODELS, "{model}", "Reserved for models that are defined while the system runs.", None),
    (TENANTS, "{tenant}", "How much a tenant may ask for.", Allowance),
    (KEYS, "{key}", "API keys by their ids, without their secrets.", ApiKey),
    (MEMORY, "{tenant}.{session}.{key}", "What an agent has remembered: text.", None),
    (TOOL_SPECS, "{tool}", "The tools that are offered.", ToolSpec),
    (CHECKPOINTS, "{service}.{partition}", "How far the owner of a partition is.", None),
    (WORKERS, "{worker}", "The inference workers that are alive.", WorkerState),
    (MEMBERS, "{service}.{member}", "The processes of a service.", None),
    (AFFINITY, "{key}", "Reserved for where a session was served last.", None),
    (REQUESTS, "{tenant}.{name}", "What an idempotency key stands for: a hash.", None),
)


def _buckets() -> Iterator[Channel]:
    for bucket, key, about, kind in _BUCKETS:
        bodies, plain = ((), "its owner's own form") if kind is None else ((kind,), "")
        yield Channel(f"$KV.{bucket.name}.{key}", about, bodies, plain=plain)
