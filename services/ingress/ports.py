"""What the ingress needs (driven ports), and what its transport calls (driving ports).

Every error is one of `shared.errors` with a stable code. Must not know HTTP frameworks or NATS.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.ingress.core.bodies import CancelBody, ForkBody, TaskBody
from services.ingress.core.caller import Caller
from services.ingress.core.chat_body import ChatBody
from services.ingress.core.control_bodies import (
    ApproveBody,
    RejectBody,
    RetryBody,
    ScheduleBody,
    SteerBody,
)
from services.ingress.core.conversations import ConversationCreateBody
from services.ingress.core.messages_body import CountBody, MessagesBody
from services.ingress.core.responses_body import ResponseBody
from services.ingress.core.responses_fold import Place
from services.ingress.core.socket import Command
from services.ingress.core.tasks import Json, Order
from shared.contracts.agents import AgentSpec, LimitsPatch
from shared.contracts.base import SessionRef
from shared.contracts.control import DeleteReply
from shared.contracts.dead import Filed, Letters, Retried, Wanted
from shared.contracts.documents import DocumentChanged
from shared.contracts.facts import Done, Forked, Noted
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

# -- what the ingress needs -----------------------------------------------------------------------


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

    async def retry(self, task: str | None = None, by: str = "") -> TaskHandle:
        """Go on where it failed, as a new task; `not_failed`, `superseded`."""
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

    async def fork(self, ref: SessionRef, body: ForkBody) -> tuple[str, Forked]:
        """Make a fork of a session: its name, and what it begins with."""
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


class Ledger(Protocol):
    """What was used and what was asked, as far as it is recorded; `ledger_behind` for `min_seq`."""

    async def usage(self, query: UsageQuery) -> UsageReply:
        """Tokens, money and times, grouped."""
        ...

    async def requests(self, query: RequestsQuery) -> RequestsReply:
        """Tasks and completions, newest first."""
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

    async def workers(self) -> Sequence[WorkerState]:
        """The inference workers that are alive."""
        ...


class Health(Protocol):
    """The parts of the system that requests depend on."""

    async def missing(self) -> list[str]:
        """The names of the parts that are away, the bus first. Never raises; bounded in time."""
        ...


# -- what the transport calls ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer and the headers that go with it."""

    body: Json
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Chunks:
    """A streamed answer; `durable` where the client can come back to it."""

    chunks: AsyncGenerator[Json]
    headers: dict[str, str]
    durable: bool


class ChatApi(Protocol):
    """Chat completions, stateless or by an agent."""

    async def answer(self, caller: Caller, body: ChatBody, key: str | None) -> Answer:
        """The whole answer at once."""
        ...

    async def stream(self, caller: Caller, body: ChatBody, key: str | None) -> Chunks:
        """Chunks; whatever is refused is refused before the first one."""
        ...


@dataclass(frozen=True, slots=True)
class Named:
    """Names that a client gives beside the body: its idempotency key, an agent's session."""

    key: str | None = None
    session: str | None = None


class MessagesApi(Protocol):
    """Anthropic's messages, stateless or by an agent."""

    async def answer(self, caller: Caller, body: MessagesBody, named: Named) -> Answer:
        """The whole answer at once."""
        ...

    async def stream(self, caller: Caller, body: MessagesBody, named: Named) -> Chunks:
        """Events; whatever is refused is refused before the first one."""
        ...

    async def count(self, caller: Caller, body: CountBody) -> Json:
        """How many tokens a model would read."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A response that somebody follows; one that is not `stored` is deleted behind its end,
    except where whoever asked for it wants to `keep` it for a while."""

    task: TaskHandle
    place: Place
    tenant: str
    stored: bool = True
    keep: bool = False


class ResponsesApi(Protocol):
    """OpenAI's responses. All refuse an unknown id with `response_not_found`."""

    async def create(
        self, caller: Caller, body: ResponseBody, key: str | None, own: frozenset[str] = ...
    ) -> Opened:
        """Begin one; whatever is refused is refused here."""
        ...

    def events(self, opened: Opened, after: int = -1) -> AsyncGenerator[Json]:
        """Its typed events behind a number, to its end."""
        ...

    async def answer(self, opened: Opened) -> Json:
        """The whole of it at its end, or why it failed."""
        ...

    def forget(self, opened: Opened) -> None:
        """Delete one that is not stored; it goes on by itself."""
        ...

    async def now(self, opened: Opened) -> Json:
        """It as it is at its beginning."""
        ...

    async def resume(self, caller: Caller, response: str) -> Opened:
        """One to be followed again."""
        ...

    async def get(self, caller: Caller, response: str) -> Json:
        """One as it is now."""
        ...

    async def input_items(self, caller: Caller, response: str) -> list[Json]:
        """What it was asked."""
        ...

    async def cancel(self, caller: Caller, response: str) -> Json:
        """Stop one, and what has become of it."""
        ...

    async def delete(self, caller: Caller, response: str) -> Json:
        """Forget one."""
        ...


class ConversationsApi(Protocol):
    """OpenAI's conversations. All refuse an unknown id with `conversation_not_found`."""

    async def create(self, caller: Caller, body: ConversationCreateBody, key: str | None) -> Json:
        """Begin one."""
        ...

    async def get(self, caller: Caller, name: str) -> Json:
        """One of them."""
        ...

    async def update(self, caller: Caller, name: str, metadata: dict[str, str]) -> Json:
        """Its metadata anew."""
        ...

    async def delete(self, caller: Caller, name: str) -> Json:
        """Forget it."""
        ...

    async def items(self, caller: Caller, name: str) -> list[Json]:
        """All its items, in order."""
        ...

    async def item(self, caller: Caller, name: str, item: str) -> Json:
        """One of them; `item_not_found`."""
        ...

    async def add(
        self, caller: Caller, name: str, items: list[dict[str, object]], key: str | None
    ) -> list[Json]:
        """Set items down."""
        ...

    async def remove(self, caller: Caller, name: str, item: str) -> Json:
        """Hide an item."""
        ...


class ControlApi(Protocol):
    """What people say to a task; each answers with the sequence of the fact that records it."""

    async def steer(self, task: TaskHandle, body: SteerBody, key: str | None) -> int:
        """Say something to it."""
        ...

    async def approve(self, task: TaskHandle, body: ApproveBody) -> int:
        """Let a parked step go on."""
        ...

    async def reject(self, task: TaskHandle, body: RejectBody) -> int:
        """Do not let it go on."""
        ...

    async def retry(
        self, caller: Caller, task: TaskHandle, body: RetryBody, key: str | None
    ) -> TaskHandle:
        """The new task."""
        ...


class SocketApi(Protocol):
    """What is asked over the socket of a session."""

    async def answer(self, caller: Caller, session: str, command: Command) -> Json:
        """What is done, as the answer shows it."""
        ...


class SchedulesApi(Protocol):
    """Tasks at a time, at an interval or by cron."""

    async def put(self, caller: Caller, name: str, body: ScheduleBody) -> Json:
        """Store one."""
        ...

    async def get(self, caller: Caller, name: str) -> Json:
        """One of them."""
        ...

    async def list(self, caller: Caller) -> Json:
        """All."""
        ...

    async def delete(self, caller: Caller, name: str) -> Json:
        """Remove one."""
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


class TasksApi(Protocol):
    """Durable tasks and their sessions."""

    async def submit(self, caller: Caller, body: TaskBody, key: str | None) -> TaskHandle:
        """Check and submit a task."""
        ...

    async def wait(self, task: TaskHandle, seconds: float) -> bool:
        """Whether the task ended within that time."""
        ...

    async def find(self, caller: Caller, task: str, session: str | None) -> TaskHandle:
        """An existing task."""
        ...

    async def state(self, caller: Caller, task: TaskHandle) -> Json:
        """Its state, folded from the log."""
        ...

    async def ended_before(self, caller: Caller, task: TaskHandle, after: str) -> bool:
        """Whether nothing can follow the event `after`."""
        ...

    async def cancel(self, task: TaskHandle, body: CancelBody) -> int:
        """The sequence of the request."""
        ...

    async def session(self, caller: Caller, name: str) -> Json:
        """A session and its tasks."""
        ...

    async def history(self, caller: Caller, name: str, after: int, limit: int) -> Json:
        """A page of a session's facts."""
        ...

    async def follow(self, caller: Caller, name: str, after: str) -> AsyncGenerator[Event]:
        """All that happens in a session behind a cursor, without an end."""
        ...

    async def fork(self, caller: Caller, name: str, body: ForkBody) -> Json:
        """A new session that goes on from a step of this one."""
        ...
