"""Who may do what on the bus: one row per service, from which the server's permissions are made.

A row says what a service works with (the streams that it reads, the consumers that are its own, the
buckets that it writes); how that is spelled as subjects of the JetStream API is said here once.
What no row names is denied. Decision record 0040 has the reasons, and what this cannot prevent.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.contracts.base import check_token
from shared.errors import Permanent
from shared.subjects.addresses import (
    BLOBS,
    DEAD,
    DIRECT_ROUTE,
    DOCS,
    EMBED,
    ENDED,
    FEED,
    INDEX_REBUILD,
    INDEX_STATE,
    LEDGER_REBUILD,
    LEDGER_REQUESTS,
    LEDGER_SESSIONS,
    LEDGER_STATE,
    LEDGER_TASKS,
    LEDGER_USAGE,
    PARTITIONS,
    ROUTE,
    RUNS,
    SCHEDULES,
    SEARCH,
    TIMERS,
    TOKENS,
    WORK,
)
from shared.subjects.asks import ASKED_OF_RETRIEVAL, ASKED_OF_SESSIONS, ask_filter, ask_subject
from shared.subjects.streams import (
    AFFINITY,
    AGENTS,
    CHECKPOINTS,
    CONSUMERS,
    ERASER,
    FIRED,
    INDEXER,
    KEYS,
    LEDGER,
    MEMBERS,
    MEMORY,
    MODELS,
    REQUESTS,
    ROUTER,
    STRAYS,
    STREAMS,
    TENANTS,
    TOOL_SPECS,
    TOOLS,
    TRACES,
    UNDERTAKER,
    WORKERS,
    Bucket,
    Consumer,
    sessions_consumer,
)

ADMIN = "admin"
"""Deploys the topology, and is who runs the system: the command line, backups."""
TENANT_PREFIX = "tenant-"


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subject patterns, as the server's configuration takes them; a denial wins."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    publish_denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A consumer by stream and name; `*` stands for every name that no other service owns."""

    stream: str
    name: str

    @property
    def path(self) -> str:
        """How the JetStream API spells it."""
        return f"{self.stream}.{self.name}"


def place_of(row: Consumer) -> Place:
    """Of a row of the consumer table."""
    return Place(row.stream, row.name)


@dataclass(frozen=True, slots=True)
class Grant:
    """What one service works with."""

    sends: tuple[str, ...] = ()
    """Subjects that it publishes to, in a stream or not; questions to others among them."""
    hears: tuple[str, ...] = ()
    """Subjects that it subscribes to."""
    reads: tuple[str, ...] = ()
    """Streams whose messages it fetches."""
    consumes: tuple[Place, ...] = ()
    """Its own consumers: it makes them, pulls from them and acknowledges, nobody else does."""
    inspects: tuple[Place, ...] = ()
    """Other people's consumers, of which it reads how far they have come."""
    lists: tuple[str, ...] = ()
    """Streams of which it lists all consumers."""
    measures: tuple[str, ...] = ()
    """Streams of which it reads how much they hold, and nothing of what."""
    purges: tuple[str, ...] = ()
    """Streams of which it removes what is on a subject."""
    deletes: tuple[str, ...] = ()
    """Streams of which it removes single messages."""
    knows: tuple[Bucket, ...] = ()
    """Buckets that it reads, and is told the changes of."""
    writes: tuple[tuple[Bucket, str], ...] = ()
    """Buckets that it writes, and the keys in them."""

    @property
    def streams(self) -> tuple[str, ...]:
        """Every stream that it needs to be there."""
        own = (place.stream for place in self.consumes)
        kept = (_stream_of(bucket) for bucket in self.knows)
        return tuple(dict.fromkeys((*self.reads, *own, *kept)))


def _stream_of(bucket: Bucket) -> str:
    return f"KV_{bucket.name}"


def _letters(*consumers: str) -> tuple[str, ...]:
    """Where a reader reports messages that it gave up on: as itself, as nobody else."""
    return tuple(f"dead.*.*.{name}.>" for name in consumers)


_EVERY_BLOB = "blob.*.*.*.*"
_LEDGER_QUESTIONS = (
    *(LEDGER_TASKS, LEDGER_USAGE, LEDGER_SESSIONS),
    *(LEDGER_REQUESTS, LEDGER_STATE, LEDGER_REBUILD),
)
_RETRIEVAL_QUESTIONS = (SEARCH, EMBED, INDEX_STATE)
_TRACES = (RUNS, TOKENS, TIMERS, DEAD, BLOBS, _stream_of(MEMORY))
"""Where a deleted session has left something (`session_traces`)."""

TENANTS_INBOX = "_R_.>"
"""What the server makes of a reply subject in another account; no client can name one itself."""

GRANTS: dict[str, Grant] = {
    "sessions": Grant(
        sends=(
            *("run.>", "tasks.*.*.*", ROUTE, "work.tool.*", "timer.>"),
            *("dead.>", _EVERY_BLOB, "cancel.*.*.*", ENDED),
            *("member.sessions.*", "health.ledger", TENANTS_INBOX),
        ),
        hears=(
            *("control.*.*.*", "replay.*.*", "member.sessions.*"),
            *map(ask_filter, ASKED_OF_SESSIONS),
        ),
        reads=(*_TRACES, WORK, DOCS),  # a letter quotes the original, wherever it lies
        consumes=(
            *(place_of(sessions_consumer(number)) for number in range(PARTITIONS)),
            *map(place_of, (FIRED, UNDERTAKER, STRAYS, ERASER)),
        ),
        inspects=(place_of(LEDGER),),
        purges=_TRACES,
        deletes=(RUNS, TIMERS, DEAD, BLOBS, WORK),
        knows=(AGENTS, CHECKPOINTS, MEMBERS),
        writes=((AGENTS, ">"), (CHECKPOINTS, "sessions.*"), (MEMBERS, "sessions.*")),
    ),
    "router": Grant(
        sends=(
            *("run.*.*.*.infer_failed", ROUTE, "work.infer.>", "direct.infer.*"),
            *_letters(ROUTER.name, "rescue"),
        ),
        hears=(DIRECT_ROUTE,),
        consumes=(Place(WORK, "*"),),
        lists=(RUNS, WORK, TIMERS, DOCS, DEAD),
        measures=tuple(row.name for row in STREAMS),
        knows=(WORKERS,),
    ),
    "inference": Grant(
        sends=(
            *("run.*.*.*.inferred", "run.*.*.*.infer_failed", "run.*.*.*.completed"),
            *("tokens.*.*.*", _EVERY_BLOB, "prefixes.*.*", f"dead.*.*.*.{WORK}.>"),
        ),
        hears=("direct.infer.*", "cancel.*.*.*", "holds.*", ENDED),
        reads=(RUNS, TOKENS, BLOBS),
        consumes=(Place(WORK, "*"),),
        purges=(BLOBS,),
        knows=(TOOL_SPECS, WORKERS),
        writes=((WORKERS, "*"),),
    ),
    "tools": Grant(
        sends=(
            *("run.*.*.*.tool_done", "run.*.*.*.tool_failed", "run.*.*.*.tool_started.*.*.*"),
            *(_EVERY_BLOB, SEARCH, *_letters(TOOLS.name)),
        ),
        reads=(RUNS, BLOBS),
        consumes=(place_of(TOOLS),),
        knows=(MEMORY, TOOL_SPECS),
        writes=((MEMORY, ">"), (TOOL_SPECS, "*")),
    ),
    "retrieval": Grant(
        sends=(
            *_letters(INDEXER.name),
            f"$JS.API.CONSUMER.RESET.{place_of(INDEXER).path}",
            TENANTS_INBOX,
        ),
        hears=(*_RETRIEVAL_QUESTIONS, INDEX_REBUILD, *map(ask_filter, ASKED_OF_RETRIEVAL)),
        reads=(DOCS, BLOBS),
        consumes=(place_of(INDEXER),),
    ),
    "ledger": Grant(
        sends=_letters(LEDGER.name),
        hears=_LEDGER_QUESTIONS,
        reads=(RUNS, BLOBS),
        consumes=(place_of(LEDGER),),
    ),
    "tracing": Grant(
        sends=_letters(TRACES.name),
        reads=(RUNS, BLOBS),
        consumes=(place_of(TRACES),),
    ),
    "ingress": Grant(
        sends=(
            *("tasks.*.*.*", "control.*.*.*", "replay.*.*", "cancel.*.*.*", DIRECT_ROUTE),
            *("docs.*.*.*", _EVERY_BLOB, f"timer.*.*.{SCHEDULES}.*.*", "timer.*.*.*.~.forget"),
            *("run.*.*.*.refused", "run.*.*.*.completed", "health.*"),
            *("retried.>", "work.>", "fired.*.*.*.*.*"),  # a dead letter goes to where it was
            *(*_LEDGER_QUESTIONS, *_RETRIEVAL_QUESTIONS),
        ),
        hears=(f"{FEED}.>",),
        reads=(RUNS, WORK, TOKENS, TIMERS, DOCS, DEAD, BLOBS),
        consumes=(Place(RUNS, "*"),),
        lists=(WORK,),
        purges=(TIMERS, BLOBS),
        knows=(AGENTS, MODELS, TENANTS, KEYS, WORKERS, MEMBERS, REQUESTS, TOOL_SPECS, AFFINITY),
        writes=(
            *((KEYS, "*"), (TENANTS, "*"), (MEMBERS, "ingress.*"), (REQUESTS, ">")),
            (AFFINITY, ">"),
        ),
    ),
}
"""Every service, by its name."""


def inbox_of(user: str) -> str:
    """The prefix of a user's private inboxes: nobody else may subscribe below it."""
    return f"_INBOX.{user}"


def permissions_of(user: str) -> Permissions:
    """Of a service, or of the operator.

    Everybody answers questions (after its health, if nothing else), and so may publish to inboxes:
    their names cannot be guessed, and only their owners hear them.

    Raises:
        Permanent: `unknown_user`.
    """
    if user == ADMIN:
        return Permissions((">",), (">",))
    grant = GRANTS.get(user)
    if grant is None:
        known = ", ".join((ADMIN, *GRANTS))
        raise Permanent("unknown_user", f"the bus has no {user!r}; it has {known}", field="user")
    publish = (
        *(*grant.sends, f"health.{user}", *_reading(grant), *_removing(grant)),
        *(*_writing(grant), *_consuming(grant), "_INBOX.>"),
    )
    watched = tuple(f"$KV.{bucket.name}.>" for bucket in grant.knows)
    subscribe = (*grant.hears, *watched, f"health.{user}", f"{inbox_of(user)}.>")
    return Permissions(tuple(dict.fromkeys(publish)), subscribe, _others(user, grant))


def _reading(grant: Grant) -> tuple[str, ...]:
    found: list[str] = []
    for stream in dict.fromkeys((*grant.streams, *grant.measures)):
        found.append(f"$JS.API.STREAM.INFO.{stream}")
    for stream in (*grant.reads, *map(_stream_of, grant.knows)):
        found.append(f"$JS.API.DIRECT.GET.{stream}")
    if RUNS in grant.reads:  # from the stream's leader, in a cluster
        found.append(f"$JS.API.STREAM.MSG.GET.{RUNS}")
    found += [f"$JS.API.CONSUMER.LIST.{stream}" for stream in grant.lists]
    found += [f"$JS.API.CONSUMER.INFO.{place.path}" for place in grant.inspects]
    return tuple(found)


def _writing(grant: Grant) -> tuple[str, ...]:
    return tuple(f"$KV.{bucket.name}.{keys}" for bucket, keys in grant.writes)


def _removing(grant: Grant) -> tuple[str, ...]:
    purges = (f"$JS.API.STREAM.PURGE.{stream}" for stream in grant.purges)
    deletes = (f"$JS.API.STREAM.MSG.DELETE.{stream}" for stream in grant.deletes)
    return (*purges, *deletes)


_CALLS = ("CREATE", "INFO", "DELETE", "MSG.NEXT")


def _consumer_subjects(place: Place) -> tuple[str, ...]:
    """The API of one consumer; acknowledgements in the form with a domain as well (ADR-15, -53)."""
    calls = (f"$JS.API.CONSUMER.{call}.{place.path}" for call in _CALLS)
    return (*calls, f"$JS.ACK.{place.path}.>", f"$JS.ACK.*.*.{place.path}.>")


def _consuming(grant: Grant) -> tuple[str, ...]:
    return tuple(subject for place in grant.consumes for subject in _consumer_subjects(place))


def _others(user: str, grant: Grant) -> tuple[str, ...]:
    """What a `*` among the names of consumers must not reach: those that somebody else owns.

    Wildcards match whole tokens only, so that a pattern for names with a prefix does not exist.
    """
    wild = {place.stream for place in grant.consumes if place.name == "*"}
    own = {place.path for place in grant.consumes}
    sessions = map(sessions_consumer, range(PARTITIONS))
    foreign = [place_of(row) for row in (*CONSUMERS, TRACES, *sessions) if row.stream in wild]
    if user == "router":
        own.add(place_of(ROUTER).path)
    return tuple(
        subject
        for place in foreign
        if place.path not in own
        for subject in _consumer_subjects(place)
    )


@dataclass(frozen=True, slots=True)
class TenantAccess:
    """What a tenant's own clients reach. They are in an account of their own, so that nothing but

    these subjects exists for them, and an answer can only arrive among themselves.
    """

    services: tuple[str, ...]
    """Questions that the system answers, publishing a task among them."""
    streams: tuple[str, ...]
    """What they hear."""


SHARED_WITH_TENANTS = TenantAccess(
    services=("tasks.*.*.*", "control.*.*.*", ask_filter("*")),
    streams=("run.>", "tokens.*.*.*", f"{FEED}.>"),
)
"""What the system's account exports; each tenant's account imports its own part."""


def tenant_access(tenant: str) -> TenantAccess:
    """The part of a tenant.

    Raises:
        Permanent: `invalid_name`.
    """
    check_tenant(tenant)
    return TenantAccess(
        services=(f"tasks.{tenant}.*.*", f"control.{tenant}.*.*", ask_subject(tenant, "*")),
        streams=(f"run.*.{tenant}.>", f"tokens.{tenant}.*.*", f"{FEED}.*.{tenant}.>"),
    )


def tenant_permissions(tenant: str) -> Permissions:
    """Of a client within its tenant's account."""
    access = tenant_access(tenant)
    inbox = f"{inbox_of(tenant_user(tenant))}.>"
    return Permissions(access.services, (*access.streams, inbox))


def tenant_user(tenant: str) -> str:
    """The user name of a tenant's clients."""
    return f"{TENANT_PREFIX}{check_tenant(tenant)}"


def check_tenant(tenant: str) -> str:
    """`tenant`, if it can be one.

    Raises:
        Permanent: `invalid_name`.
    """
    if tenant.startswith("_"):
        raise Permanent("invalid_name", "names with a leading _ are reserved", field="tenant")
    return check_token(tenant, "tenant")
