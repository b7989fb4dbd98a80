"""What the transport calls (driving ports): one class for each group of paths."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from services.ingress.core.access.caller import Caller
from services.ingress.core.chat.body import ChatBody
from services.ingress.core.chat.chunks import Chunk
from services.ingress.core.embeddings import EmbeddingsBody
from services.ingress.core.messages.body import CountBody, MessagesBody
from services.ingress.core.responses.body import ResponseBody
from services.ingress.core.responses.conversations import ConversationCreateBody, ItemsBody
from services.ingress.core.responses.fold import Place
from services.ingress.core.tasks.bodies import CancelBody, ForkBody, TaskBody
from services.ingress.core.tasks.control import (
    ApproveBody,
    RejectBody,
    RetryBody,
    ScheduleBody,
    SteerBody,
)
from services.ingress.core.tasks.socket import Command
from services.ingress.core.tasks.state import Json
from services.ingress.ports.needs import (
    TaskHandle,
)
from shared.contracts.log import Event


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer and the headers that go with it."""

    body: Json
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Chunks[T]:
    """A streamed answer; `durable` where the client can come back to it."""

    chunks: AsyncGenerator[T]
    headers: dict[str, str]
    durable: bool


class ChatApi(Protocol):
    """Chat completions, stateless or by an agent."""

    async def answer(self, caller: Caller, body: ChatBody, key: str | None) -> Answer:
        """The whole answer at once."""
        ...

    async def stream(self, caller: Caller, body: ChatBody, key: str | None) -> Chunks[Chunk]:
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

    async def stream(self, caller: Caller, body: MessagesBody, named: Named) -> Chunks[Json]:
        """Events; whatever is refused is refused before the first one."""
        ...

    async def count(self, caller: Caller, body: CountBody) -> Json:
        """How many tokens a model would read."""
        ...


class EmbeddingsApi(Protocol):
    """OpenAI's embeddings."""

    async def embed(self, caller: Caller, body: EmbeddingsBody) -> Json:
        """OpenAI's list of vectors."""
        ...

    def may_abort(self, body: EmbeddingsBody) -> bool:
        """Whether `embed` may be cancelled, and what it began is then still billed."""
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

    async def add(self, caller: Caller, name: str, body: ItemsBody, key: str | None) -> list[Json]:
        """Set items down."""
        ...

    async def remove(self, caller: Caller, name: str, item: str) -> Json:
        """Hide an item."""
        ...


class ControlApi(Protocol):
    """What people say to a task; each answers with the sequence of the fact that records it."""

    async def steer(
        self, caller: Caller, task: TaskHandle, body: SteerBody, key: str | None
    ) -> int:
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
