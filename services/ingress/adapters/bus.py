"""The ingress's ports over the typed client. The only file of the ingress that knows the bus.

The process starts without a broker and serves errors until there is one: `Link` connects in the
background, and every port fails fast while it is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import nats.errors

from services.ingress.core.tasks.bodies import ForkBody
from services.ingress.core.tasks.state import Order, session_of_task
from services.ingress.ports import Query, TaskHandle
from shared.bus.connect import open_bus
from shared.bus.feed import Feed
from shared.bus.log import RunLog
from shared.client import Millrace
from shared.clock import monotonic
from shared.contracts.agents import AgentSpec
from shared.contracts.base import SessionRef
from shared.contracts.documents import DocumentChanged
from shared.contracts.facts import Forked, Noted
from shared.contracts.ledger import TasksQuery, TasksReply
from shared.contracts.log import Event, StoredFact
from shared.contracts.retrieval import EmbedReply, EmbedRequest, SearchReply
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import DirectRequest
from shared.contracts.workers import WorkerState
from shared.documents import Documents, ask
from shared.errors import Broken, MillraceError, Permanent, Transient
from shared.models import ModelsFile
from shared.settings import Address
from shared.subjects import (
    EMBED,
    LEDGER_TASKS,
)
from shared.telemetry import Log

_RETRY = 1.0
_AGENTS_FOR = 2.0
"""Seconds for which the list of agents may be old; an unknown name is looked up again at once."""
_PROBE = 2.0
_PARTS = ("sessions", "router", "tools", "retrieval", "ledger")
"""Services that answer `health.<name>` once they are ready; a worker shows itself in KV."""
_SECOND_LOOK = 0.2


class Link:
    """The connection to the bus, once there is one."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._client: Millrace | None = None

    def up(self) -> bool:
        """Whether there is a connection."""
        return self._client is not None and self._client.bus.nc.is_connected

    def client(self, tenant: str = "default") -> Millrace:
        """The client in a tenant's name.

        Raises:
            Transient: `bus_unavailable` while there is no connection.
        """
        if self._client is None or not self._client.bus.nc.is_connected:
            raise Transient("bus_unavailable", "no connection to the bus", retry_after=1.0)
        return self._client if tenant == "default" else self._client.for_tenant(tenant)

    @asynccontextmanager
    async def open(self, address: Callable[[], Address]) -> AsyncIterator[None]:
        """Connect in the background, as often as it takes; disconnect at the end."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._keep(address, stop))
        try:
            yield
        finally:
            stop.set()
            if self._client is None:
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep(self, address: Callable[[], Address], stop: asyncio.Event) -> None:
        told = False
        while True:
            try:
                async with open_bus(address(), "ingress", self._log) as bus:
                    self._client = Millrace(bus, feed=Feed(bus, RunLog(bus), shared=True))
                    self._log.info("ingress.bus_connected")
                    await stop.wait()
                    return
            except (MillraceError, nats.errors.Error, OSError) as error:
                if not told:
                    self._log.warning("ingress.waits_for_bus", error=str(error))
                told = True
                await asyncio.sleep(_RETRY)


class BusTasks:
    """Port `Tasks`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def submit(self, order: Order, trace_id: str) -> TaskHandle:
        """Durable when this returns."""
        return await self._link.client(order.ref.tenant).submit(
            order.agent,
            order.input if isinstance(order.input, str) else list(order.input),
            session=order.ref.session,
            task=order.task,
            limits=order.limits,
            sampling=order.sampling,
            metadata=order.metadata,
            on_busy=order.on_busy,
            terms=order.terms,
            trace_id=trace_id,
            key=order.key,
            fingerprint=order.fingerprint,
        )

    def task(self, ref: SessionRef, task: str) -> TaskHandle:
        """A task whose session is known."""
        return self._link.client(ref.tenant).task(task, ref.session)

    async def known(self, ref: SessionRef, task: str) -> TaskHandle | None:
        """By the log: accepted anywhere, or submitted to this session."""
        client = self._link.client(ref.tenant)
        if (found := await _accepted(client, task)) is not None:
            return found
        here = client.task(task, ref.session)
        return here if await here.facts() else None

    async def find(self, tenant: str, task: str) -> TaskHandle | None:
        """By the log, else (it still waits) by the session named after it, else by the ledger.

        A task that was submitted a moment ago may be known to none of them; a second look helps.
        """
        client = self._link.client(tenant)
        if (found := await _accepted(client, task)) is not None:
            return found
        own = client.task(task, session_of_task(task))
        if await own.facts():
            return own
        if (found := await _recorded(client, task)) is not None:
            return found
        await asyncio.sleep(_SECOND_LOOK)
        return await _accepted(client, task)

    async def exists(self, ref: SessionRef) -> bool:
        """Whether the session has a fact: a task, or the fork that it is."""
        return await self._link.client(ref.tenant).log.first(ref) is not None

    async def check_place(self, ref: SessionRef, seq: int) -> None:
        """By the log."""
        await self._link.client(ref.tenant).log.check_place(ref, seq)

    def events(self, ref: SessionRef, after: str = "") -> AsyncGenerator[Event]:
        """From the feed that all viewers of this process share; fails at once without a bus."""
        return self._link.client(ref.tenant).feed.follow(ref, after)

    async def history(self, ref: SessionRef, after: int = 0) -> list[StoredFact]:
        """The facts of a session."""
        return await self._link.client(ref.tenant).session(ref.session).history(after)

    async def note(self, ref: SessionRef, note: Noted) -> int:
        """Set something down."""
        session = self._link.client(ref.tenant).session(ref.session)
        return await session.note(
            note.messages, hidden=note.hidden, metadata=note.metadata, note=note.note, by="client"
        )

    async def fork(self, ref: SessionRef, body: ForkBody, key: str) -> tuple[str, Forked]:
        """Make a fork."""
        child = await self._link.client(ref.tenant).fork(
            ref.session,
            at=body.at,
            name=body.session or "",
            route=body.model,
            input=body.input,
            results=body.results,
            by=body.by,
            key=key,
        )
        origin = await child.origin()
        if origin is None:
            raise Broken("internal", f"the fork {child.ref} has no beginning")
        return child.ref.session, origin


async def _accepted(client: Millrace, task: str) -> TaskHandle | None:
    try:
        return await client.find_task(task)
    except Permanent as error:
        if error.code != "unknown_task":
            raise
    return None


async def _recorded(client: Millrace, task: str) -> TaskHandle | None:
    """What the ledger knows; without it a task that waits in a session of its own is not found."""
    query = TasksQuery(tenant=client.tenant, task=task, limit=1)
    try:
        found = (await ask(client.bus, LEDGER_TASKS, query, TasksReply)).tasks
    except Transient:
        return None
    return client.task(task, found[0].session) if found else None


class BusCompletions:
    """Port `Completions`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def complete(self, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
        """Through the router to a worker."""
        return self._link.client(request.tenant).complete(request)


class BusDocuments:
    """Port `Documents`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def put(
        self, tenant: str, collection: str, document: str, text: str, metadata: dict[str, str]
    ) -> int:
        """Store a version."""
        return await self._of(tenant, collection).upsert(document, text, metadata)

    async def delete(self, tenant: str, collection: str, document: str) -> int:
        """Remove a document."""
        return await self._of(tenant, collection).delete(document)

    async def get(self, tenant: str, collection: str, document: str) -> DocumentChanged | None:
        """The newest version."""
        return await self._of(tenant, collection).get(document)

    async def list(self, tenant: str, collection: str) -> Sequence[str]:
        """The ids."""
        return await self._of(tenant, collection).list()

    async def search(self, tenant: str, collection: str, query: Query) -> SearchReply:
        """Passages."""
        return await self._of(tenant, collection).search(
            query.text, query.limit, query.min_score, query.min_seq, highlight=query.highlight
        )

    async def embed(self, texts: tuple[str, ...]) -> EmbedReply:
        """Vectors."""
        bus = self._link.client().bus
        return await ask(bus, EMBED, EmbedRequest(texts=texts), EmbedReply)

    def _of(self, tenant: str, collection: str) -> Documents:
        return self._link.client(tenant).documents(collection)


class BusCatalog:
    """Port `Catalog`."""

    def __init__(self, link: Link, models: ModelsFile) -> None:
        self._link, self._models = link, models
        self._agents: dict[str, tuple[float, dict[str, tuple[int, AgentSpec]]]] = {}

    async def agents(self, tenant: str) -> Mapping[str, tuple[int, AgentSpec]]:
        """Read at most every two seconds per tenant: a submission must not list a bucket."""
        client = self._link.client(tenant)
        read, agents = self._agents.get(tenant, (float("-inf"), {}))
        if monotonic() - read > _AGENTS_FOR:
            agents = await client.agents()
            self._agents[tenant] = (monotonic(), agents)
        return agents

    async def routes(self) -> Sequence[str]:
        """Of the models file."""
        return tuple(self._models.routes)

    def embeds(self, name: str) -> bool:
        """By its row."""
        return self._models.embeds(name)

    def has_model(self, name: str) -> bool:
        """Of the models file."""
        return name in self._models.models or name in self._models.routes

    async def workers(self) -> Sequence[WorkerState]:
        """Who is alive."""
        return await self._link.client().workers()


class BusHealth:
    """Port `Health`. A part is there when it answers; what it answers does not matter."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def missing(self) -> list[str]:
        """Ask all parts at once."""
        try:
            client = self._link.client()
        except Transient:
            return ["bus"]
        checks = {name: self._answers(client, name) for name in _PARTS}
        checks["worker"] = self._has_worker(client)
        found = await asyncio.gather(*checks.values())
        return [name for name, there in zip(checks, found, strict=True) if not there]

    async def _answers(self, client: Millrace, service: str) -> bool:
        try:
            await client.bus.request(f"health.{service}", b"", _PROBE)
        except Transient:
            return False
        return True

    async def _has_worker(self, client: Millrace) -> bool:
        try:
            return bool(await client.workers())
        except MillraceError:
            return False
