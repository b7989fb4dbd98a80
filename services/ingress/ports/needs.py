"""What the ingress needs from outside (driven ports).

Every error is one of `shared.errors` with a stable code. Must not know HTTP frameworks or NATS.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.ingress.core.tasks.bodies import ForkBody
from services.ingress.core.tasks.state import Order
from shared.contracts.agents import AgentSpec, LimitsPatch
from shared.contracts.base import SessionRef
from shared.contracts.control import DeleteReply
from shared.contracts.dead import Filed, Letters, Retried, Wanted
from shared.contracts.documents import DocumentChanged
from shared.contracts.facts import Completed, Done, Forked, Noted
from shared.contracts.keys import Allowance, ApiKey, Issued, NewKey
from shared.contracts.ledger import (
    RequestsQuery,
    RequestsReply,
    SessionsQuery,
    SessionsReply,
    TasksQuery,
    TasksReply,
    UsageQuery,
    UsageReply,
)
from shared.contracts.log import Event, StoredFact
from shared.contracts.retrieval import EmbedReply, SearchReply
from shared.contracts.schedules import Schedule, Scheduled
from shared.contracts.tasks import Terms
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import DirectRequest
from shared.contracts.workers import WorkerState


class TaskHandle(Protocol):
    """One task of a known session. Holds no state of its own: all is read from the log."""

    @property
    def id(self) -> str:
        """The task id."""
        ...

    @property
    def session(self) -> str:
        """The session's name."""
        ...

    def events(self, after: str = "") -> AsyncGenerator[Event]:
        """Facts and deltas in order, each once, ending after `done`; `after` is an event id.

        Closing it ends the viewing, never the task.
        """
        ...

    async def result(self, timeout: float = 60.0) -> Done:  # noqa: ASYNC109  # the client's name
        """Wait for the end; `Transient("still_running")` when the time is over."""
        ...

    async def facts(self) -> list[StoredFact]:
        """What the log holds of it now; empty where it was never submitted."""
        ...

    async def cancel(self, by: str = "", reason: str = "") -> int:
        """The sequence of the fact that records it; `task_ended` when it is too late."""
        ...

    async def steer(self, text: str, *, id: str | None = None, by: str = "") -> int:
        """Say something to it; the same `id` once. `not_running` where nothing listens."""
        ...

    async def approve(
        self,
        step: int | None = None,
        *,
        arguments: str | None = None,
        result: str | None = None,
        limits: LimitsPatch | None = None,
        by: str = "",
        note: str = "",
    ) -> int:
        """Let a parked step go on (the only one by default); `not_parked` where none is."""
        ...

    async def reject(self, step: int | None = None, *, by: str = "", note: str = "") -> int:
        """Do not let it go on."""
        ...

    async def answer(
        self, call: str, result: str, *, terms: Terms | None = None, by: str = ""
    ) -> int:
        """Say what a tool of the client returned; the first result of a call counts."""
        ...

    async def retry(self, task: str | None = None, by: str = "", key: str = "") -> TaskHandle:
        """Go on where it failed, as a new task that the API key `key` pays for.

        `not_failed`, `superseded`.
        """
        ...


class Tasks(Protocol):
    """Durable tasks."""

    async def submit(self, order: Order, trace_id: str) -> TaskHandle:
        """Durable when this returns. Repeating a task id in its session changes nothing."""
        ...

    def task(self, ref: SessionRef, task: str) -> TaskHandle:
        """A task whose session is known; whether it exists is not checked."""
        ...

    async def known(self, ref: SessionRef, task: str) -> TaskHandle | None:
        """The task that has this id already: in the session `ref`, or accepted in any other."""
        ...

    async def find(self, tenant: str, task: str) -> TaskHandle | None:
        """A task by its id alone, also while it waits in a queue."""
        ...

    async def exists(self, ref: SessionRef) -> bool:
        """Whether a task was ever submitted to the session."""
        ...

    async def check_place(self, ref: SessionRef, seq: int) -> None:
        """`invalid_cursor` where that sequence is no place in the session's log."""
        ...

    def events(self, ref: SessionRef, after: str = "") -> AsyncGenerator[Event]:
        """Facts and deltas of all tasks of a session in order, each once, without an end.

        The session need not exist yet. Without a bus this fails here, not with the first event.
        """
        ...

    async def history(self, ref: SessionRef, after: int = 0) -> list[StoredFact]:
        """The facts of a session with a sequence above `after`, in order."""
        ...

    async def note(self, ref: SessionRef, note: Noted) -> int:
        """Set something down in a session, once; it makes the session where there is none."""
        ...

    async def fork(self, ref: SessionRef, body: ForkBody, key: str) -> tuple[str, Forked]:
        """Make a fork of a session that the API key `key` pays for.

        Answers its name, and what it begins with.
        """
        ...


class Keyed(Protocol):
    """What idempotency keys stand for; every replica sees the same, whatever session is named."""

    async def take(self, tenant: str, name: str, fingerprint: str) -> bool:
        """Let a name stand for a request from now on; False where it stood for it before.

        Raises:
            Permanent: `idempotency_conflict` where it stands for another one.
            Transient: `bus_unavailable`.
        """
        ...

    async def give_back(self, tenant: str, name: str) -> None:
        """Let it stand for nothing again: the request that took it was refused.

        Raises:
            Transient: `bus_unavailable`.
        """
        ...


class Schedules(Protocol):
    """Schedules of a tenant: `invalid_schedule` names the field, `unknown_schedule` is no name."""

    async def put(self, tenant: str, name: str, schedule: Schedule) -> int:
        """Store one in the place of the one with that name; its sequence."""
        ...

    async def get(self, tenant: str, name: str) -> Scheduled:
        """One of them."""
        ...

    async def list(self, tenant: str) -> Sequence[Scheduled]:
        """All, by name."""
        ...

    async def delete(self, tenant: str, name: str) -> None:
        """Remove one."""
        ...


class Completions(Protocol):
    """Stateless completions."""

    def complete(self, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
        """The last event has `done` or `error`. Closing it before aborts the generation."""
        ...


class Documents(Protocol):
    """Collections of documents and their index."""

    async def put(
        self, tenant: str, collection: str, document: str, text: str, metadata: dict[str, str]
    ) -> int:
        """Store a version; answers its sequence, for `min_seq` of a search."""
        ...

    async def delete(self, tenant: str, collection: str, document: str) -> int:
        """Remove a document; answers the sequence of its removal."""
        ...

    async def get(self, tenant: str, collection: str, document: str) -> DocumentChanged | None:
        """The newest version, None where there is none."""
        ...

    async def list(self, tenant: str, collection: str) -> Sequence[str]:
        """The ids, sorted."""
        ...

    async def search(self, tenant: str, collection: str, query: Query) -> SearchReply:
        """Passages, best first."""
        ...

    async def embed(self, texts: tuple[str, ...]) -> EmbedReply:
        """One unit vector per text."""
        ...


@dataclass(frozen=True, slots=True)
class Query:
    """A question to a collection."""

    text: str
    limit: int = 3
    min_score: float = 0.0
    min_seq: int = 0
    highlight: bool = False


class Housekeeping(Protocol):
    """What a tenant may throw away, and what became of its messages that nobody could process."""

    async def letters(self, tenant: str, wanted: Wanted, after: int, limit: int) -> Letters:
        """Dead letters in the order of their ids."""
        ...

    async def letter(self, tenant: str, letter: int) -> Filed:
        """One of them; `unknown_letter` also for another tenant's."""
        ...

    async def retry(self, tenant: str, letter: int, by: str) -> Retried:
        """Send its message again, once however often this is asked for."""
        ...

    async def delete_session(self, ref: SessionRef, *, force: bool, by: str) -> DeleteReply:
        """Forget a session; `session_busy` while a task has not ended, except with `force`."""
        ...

    async def forget_later(self, ref: SessionRef) -> None:
        """Forget a session once nothing was said in it for an hour, whatever becomes of us.

        Durable when this returns; the session need not exist yet.
        """
        ...


class Records(Protocol):
    """The log, for what nobody else writes down."""

    async def used(self, tenant: str, fact: Completed, trace_id: str) -> None:
        """A line of the bill; durable when this returns."""
        ...


class Ledger(Protocol):
    """What was used and what was asked, as far as it is recorded; `ledger_behind` for `min_seq`."""

    async def usage(self, query: UsageQuery) -> UsageReply:
        """Tokens, money and times, grouped."""
        ...

    async def requests(self, query: RequestsQuery) -> RequestsReply:
        """Tasks, completions, embeddings and what was refused, newest first."""
        ...

    async def sessions(self, query: SessionsQuery) -> SessionsReply:
        """Sessions, touched last first."""
        ...

    async def tasks(self, query: TasksQuery) -> TasksReply:
        """Tasks, newest first."""
        ...


class Catalog(Protocol):
    """Who and what there is."""

    async def agents(self, tenant: str) -> Mapping[str, tuple[int, AgentSpec]]:
        """The agents that the tenant may use: name -> revision and definition."""
        ...

    async def routes(self) -> Sequence[str]:
        """The routes that a model can be reached by."""
        ...

    def embeds(self, name: str) -> bool:
        """Whether this is an embedding model of the models file, or a route to some."""
        ...

    def has_model(self, name: str) -> bool:
        """Whether the models file has a model or route of that name."""
        ...

    async def workers(self) -> Sequence[WorkerState]:
        """The inference workers that are alive."""
        ...


class Health(Protocol):
    """The parts of the system that requests depend on."""

    async def missing(self) -> list[str]:
        """The names of the parts that are away, the bus first. Never raises; bounded in time."""
        ...


class KeyStore(Protocol):
    """The API keys of the tenants."""

    async def create(self, tenant: str, order: NewKey) -> Issued:
        """Make a key; its secret is in the answer and nowhere else."""
        ...

    async def list(self, tenant: str) -> Sequence[ApiKey]:
        """The tenant's, the oldest first."""
        ...

    async def get(self, tenant: str, key: str) -> ApiKey:
        """One of them. Raises `unknown_key`, also for another tenant's."""
        ...

    async def revoke(self, tenant: str, key: str) -> ApiKey:
        """End a key for good. Raises `unknown_key`."""
        ...

    async def rotate(self, tenant: str, key: str, overlap_s: float) -> Issued:
        """Give it a new secret. Raises `unknown_key`, `key_ended`."""
        ...


class Ring(Protocol):
    """What this replica knows of keys and limits without asking anybody."""

    @property
    def keys(self) -> Mapping[str, ApiKey]:
        """Every key by its id."""
        ...

    @property
    def allowances(self) -> Mapping[str, Allowance]:
        """Limits of tenants that have their own."""
        ...

    @property
    def replicas(self) -> int:
        """How many share the limits, at least 1."""
        ...

    def trusted(self) -> bool:
        """Whether what is known is new enough to let somebody in."""
        ...
