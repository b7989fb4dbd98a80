"""The tables of streams, consumers and buckets: what the topology is made from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from shared.contracts.base import SessionRef, as_token
from shared.subjects.addresses import (
    BLOBS,
    DAY,
    DEAD,
    DELTA,
    DOCS,
    FEED,
    LANES,
    MINUTE,
    PARTITIONS,
    ROUTE,
    RUNS,
    TIMERS,
    TOKENS,
    WORK,
    blob_filter,
    infer_subject,
    session_prefix,
    shared_infer_subject,
)


@dataclass(frozen=True, slots=True)
class Stream:
    """A row of the stream table. Ages and windows in seconds, 0 for none; sizes in bytes."""

    name: str
    subjects: tuple[str, ...]
    storage: str = "file"
    retention: str = "limits"
    max_age: float = 0.0
    max_bytes: int = -1
    max_per_subject: int = -1
    duplicate_window: float = 2 * MINUTE
    extra: dict[str, object] = field(default_factory=dict)


ADVISORIES = (
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>",
    "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>",
)

FIRED_FOR = "240h"
"""Per-message TTL of what a timer or schedule has fired: so long may its reader be away."""

STREAMS = (
    Stream(
        RUNS,
        ("tasks.*.*.*", "run.>"),
        max_age=30 * DAY,
        extra={
            "allow_direct": True,
            "allow_atomic": True,
            "allow_rollup_hdrs": True,
            "subject_transform": {
                "src": "tasks.*.*.*",
                "dest": f"run.{{{{partition({PARTITIONS},1,3)}}}}"
                ".{{wildcard(1)}}.{{wildcard(3)}}.task.{{wildcard(2)}}",
            },
            "republish": {"src": "run.>", "dest": f"{FEED}.>"},
        },
    ),
    Stream(
        WORK,
        ("work.>",),
        storage="memory",
        retention="workqueue",
        max_bytes=256 << 20,
        extra={"allow_direct": True},
    ),
    Stream(
        TOKENS,
        ("tokens.>",),
        storage="memory",
        max_age=15 * MINUTE,
        max_bytes=128 << 20,
        extra={
            "no_ack": True,
            "allow_direct": True,
            "republish": {
                "src": "tokens.*.*.*",
                "dest": f"{FEED}.{{{{partition({PARTITIONS},1,2)}}}}"
                f".{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}.{DELTA}.{{{{wildcard(3)}}}}",
            },
        },
    ),
    Stream(
        TIMERS,
        ("timer.>", "fired.>"),  # no max_age: a schedule must outlive it (decision record 0016)
        extra={"allow_msg_schedules": True, "allow_msg_ttl": True, "allow_direct": True},
    ),
    Stream(DOCS, ("docs.>",), max_per_subject=1, extra={"allow_direct": True}),
    Stream(
        BLOBS,  # no max_age: a part lives as long as what refers to it, and says so itself
        ("blob.*.*.*.*",),
        max_per_subject=1,
        extra={"allow_direct": True, "allow_msg_ttl": True},
    ),
    Stream(
        DEAD, ("dead.>", "retried.>", *ADVISORIES), max_age=30 * DAY, extra={"allow_direct": True}
    ),
)


@dataclass(frozen=True, slots=True)
class Consumer:
    """A row of the consumer table: who reads what, and how often a message is tried.

    `memory` consumers forget their place when the server restarts; their readers know where to
    begin from elsewhere (the log, a checkpoint), or the stream is in memory itself.
    """

    name: str
    stream: str
    filters: tuple[str, ...]
    ack_wait: float = 30.0
    max_deliver: int = 5
    max_ack_pending: int = 1000
    memory: bool = False
    acks: bool = True
    """Whether its reader acknowledges; else the reader itself knows how far it has come."""
    inactive: float = 0.0
    """Seconds without a reader after which the server removes it, 0 for never."""
    group: str = ""
    """Where set, the server gives the messages to one reader at a time (a pinned client)."""


def sessions_consumer(partition: int) -> Consumer:
    """The facts of a partition, for its owner. Its place is in a checkpoint; the owner creates it,

    from that sequence on.
    """
    return Consumer(
        f"sessions-{partition}",
        RUNS,
        (f"run.{partition}.>",),
        ack_wait=30.0,
        max_deliver=-1,
        max_ack_pending=5000,
        memory=True,
        group="owner",
    )


def spending_consumer(replica: str) -> Consumer:
    """What was used and whose it is, for one replica of the ingress: it creates the consumer, from

    where it has come to. Nobody acknowledges: what is missed is read again from there.
    """
    kinds = ("inferred", "completed", "task.*", "forked", "done.*")
    return Consumer(
        f"spending-{replica}",
        RUNS,
        tuple(f"run.*.*.*.{kind}" for kind in kinds),
        memory=True,
        acks=False,
        inactive=30.0,
    )


ROUTER = Consumer("router", WORK, (ROUTE,), ack_wait=5.0, max_deliver=40, memory=True)
TOOLS = Consumer("tools", WORK, ("work.tool.>",), ack_wait=6.0, max_deliver=8, memory=True)
FIRED = Consumer("timers", TIMERS, ("fired.>",), ack_wait=10.0, max_deliver=20)
INDEXER = Consumer("retrieval", DOCS, ("docs.>",), ack_wait=10.0, max_ack_pending=32)
LEDGER = Consumer("ledger", RUNS, ("run.>",), ack_wait=30.0, max_deliver=20)
TRACES = Consumer("traces", RUNS, ("run.*.*.*.done.*",), max_deliver=-1)
"""The ends of tasks, for the tracing service, which creates it: most systems send no traces. It
waits while its collector is away, and gives up what has become too old itself."""
UNDERTAKER = Consumer("undertaker", DEAD, ("dead.>", *ADVISORIES), max_deliver=50)
STRAYS = Consumer("strays", RUNS, ("tasks.>",))
"""Tasks whose names the server could not put into a subject of ours (a wildcard, for example)."""
ERASER = Consumer("eraser", RUNS, ("run.*.*.*.deleted",), max_deliver=500)
CONSUMERS = (ROUTER, TOOLS, FIRED, INDEXER, LEDGER, UNDERTAKER, STRAYS, ERASER)


def infer_consumer(model: str, worker: str) -> Consumer:
    """Model calls for one worker."""
    return _infer_consumer(f"infer-w-{as_token(worker)}", infer_subject(model, worker))


def shared_infer_consumer(model: str, lane: str) -> Consumer:
    """Model calls of one of `LANES`, shared by the workers of a model."""
    name = f"infer-{as_token(model)}-{lane.replace('.', '-')}"
    return _infer_consumer(name, shared_infer_subject(model, lane))


def _infer_consumer(name: str, subject: str) -> Consumer:
    return Consumer(name, WORK, (subject,), ack_wait=6.0, max_deliver=5, memory=True)


def is_model_lane(consumer: str) -> bool:
    """Whether a consumer of WORK, by its name, reads model calls."""
    return consumer.startswith("infer-")


_MANY = ("infer-w", "rescue", "sessions", "spending")
_LANE = re.compile("-(?:" + "|".join(lane.replace(".", "-") for lane in LANES) + ")$")


@lru_cache(maxsize=1024)
def queue_of(consumer: str) -> str:
    """The queue that a consumer is a part of, as it is called where queues are counted.

    There is one for each kind of reader, and one for each model's shared lanes: workers, partitions
    and replicas come and go, and are too many to be told apart there.
    """
    for kind in _MANY:
        if consumer.startswith(f"{kind}-"):
            return kind
    return _LANE.sub("", consumer)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A key-value bucket. `ttl` in seconds, 0 for none."""

    name: str
    history: int = 1
    ttl: float = 0.0
    memory: bool = False


AGENTS = Bucket("agents", history=20)
MODELS = Bucket("models", history=20)
TENANTS = Bucket("tenants", history=20)
"""How much a tenant may ask for (`shared.contracts.keys.Allowance`)."""
KEYS = Bucket("keys")
"""API keys by their ids, without their secrets."""
MEMORY = Bucket("memory")
TOOL_SPECS = Bucket("tools")
"""Every tool that the tools service offers, by name: what workers show to the model."""
CHECKPOINTS = Bucket("checkpoints")
WORKERS = Bucket("workers", ttl=6.0, memory=True)
MEMBERS = Bucket("members", ttl=10.0, memory=True)
"""Which processes of a service there are: keys are `<service>.<id>`."""
AFFINITY = Bucket("affinity", ttl=15 * MINUTE, memory=True)
REQUESTS = Bucket("requests", ttl=30 * DAY)
"""What idempotency keys stand for: a hash of the request, as long as its task is in the log."""
BUCKETS = (
    *(AGENTS, MODELS, TENANTS, KEYS, MEMORY),
    *(TOOL_SPECS, CHECKPOINTS, WORKERS, MEMBERS, AFFINITY, REQUESTS),
)


def session_traces(ref: SessionRef) -> tuple[tuple[str, str], ...]:
    """Stream and filter of every place, beside its log and WORK, that holds what a session said.

    A place that is not named here survives the deletion of its session.
    """
    own = f"{ref.tenant}.{ref.session}"
    place = session_prefix(ref)[4:]
    return (
        (TOKENS, f"tokens.{own}.>"),
        (TIMERS, f"timer.{place}.>"),
        (TIMERS, f"fired.{place}.>"),
        (DEAD, f"dead.{own}.>"),
        (DEAD, f"retried.{own}.>"),
        (BLOBS, blob_filter(ref)),
        (f"KV_{MEMORY.name}", f"$KV.{MEMORY.name}.{own}.>"),
    )
