"""The typed client: submit tasks, follow them, control them, keep documents.

    async with Millrace.connect() as m:
        task = await m.submit("assistant", "What is 17 * 23?", session="s1")
        async for event in task.events():
            print(event.kind, event.data)
        done = await task.result(timeout=60)

Everything is read from the log, so a client may come and go, and ask at any time. A tenant's own
user of the bus reaches no stream: then the same is asked of the services (`shared.bus.asking`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TypedDict, Unpack

from shared.bus.asking import log_of
from shared.bus.connect import Bus, open_bus
from shared.bus.direct import complete
from shared.bus.feed import Feed
from shared.bus.kv import KeyValue
from shared.bus.repeat import until_acknowledged
from shared.bus.tasks import Origin, submit_task
from shared.clock import mint_id
from shared.contracts.agents import AgentSpec, LimitsPatch, OnBusy, Sampling
from shared.contracts.base import Message, SessionRef, check_token, decode
from shared.contracts.control import DeleteReply, DeleteSession, NoteSession
from shared.contracts.facts import Accepted, Done, Forked
from shared.contracts.log import Event, StoredFact
from shared.contracts.replay import Check, ReplayQuery, ReplayReply, ReplayRow
from shared.contracts.tasks import NO_TERMS, InputMessage, TaskSubmitted, Terms, check_repeated
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import DirectRequest
from shared.contracts.workers import WorkerState
from shared.control import Control, send_order
from shared.dead import DeadLetters
from shared.documents import Documents, ask
from shared.errors import Permanent, Transient
from shared.fork import ForkOptions, fork_request
from shared.replay import check_session, replay_page, replay_rows
from shared.schedules import Schedules
from shared.settings import BusSettings
from shared.subjects import (
    AGENTS,
    SHARED_TENANT,
    WORKERS,
    control_subject,
)
from shared.telemetry import configure
from shared.trace import TraceContext, context_of

__all__ = ["Documents", "Millrace", "Schedules", "Session", "Task"]


_DELETION = 40.0
"""Seconds: what runs is stopped first."""


class TaskOptions(TypedDict, total=False):
    """What a task may ask for beside its input."""

    limits: LimitsPatch | None
    sampling: Sampling | None
    metadata: dict[str, str] | None
    terms: Terms
    """The client's own tools, words and demands; its `sampling` and `metadata` stand beside it."""
    on_busy: OnBusy | None
    """What becomes of it where the session is busy; absent: what the running agent says."""
    trace_id: str
    """The W3C trace that the task belongs to; absent: derived from the task."""
    traceparent: str
    """The W3C context of the span that submits it, which becomes the parent of the task's."""
    key: str
    """The id of the API key that it came with."""
    fingerprint: str
    """Of the request whose idempotency key names the task."""


class Millrace:
    """A connection to a running system, in the name of one tenant."""

    def __init__(self, bus: Bus, tenant: str | None = None, feed: Feed | None = None) -> None:
        """Without a tenant it is the one whose own user `bus` is, else `default`.

        Raises:
            Permanent: `invalid_name`; `wrong_tenant` for another tenant's name.
        """
        own = bus.login.tenant
        if own and tenant not in (None, own):
            detail = f"these are the credentials of {own!r}: name it, or show another user's"
            raise Permanent("wrong_tenant", detail, field="tenant")
        self.bus = bus
        self.tenant = check_token(tenant or own or "default", "tenant")
        self.log = log_of(bus)
        self.feed = feed or Feed(bus, self.log)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str | None = None,
        token: str | None = None,
        tenant: str | None = None,
        data: Path | None = None,
    ) -> AsyncIterator[Millrace]:
        """Connect to `url`, or to the system that runs on the data folder.

        Without a token, the credentials and certificates of the environment are shown. Without a
        tenant it is the one whose own user they are of, else `default`.

        Raises:
            Transient: `no_broker`, `bus_unavailable`.
            Permanent: `invalid_credentials`, `invalid_tls`, `wrong_tenant`.
        """
        settings = BusSettings(data=data) if data is not None else BusSettings()
        address = settings.address_at(url, token) if url else settings.address()
        async with open_bus(address, "client", configure("client", "error")) as bus:
            yield cls(bus, tenant)

    def for_tenant(self, tenant: str) -> Millrace:
        """The same connection in another tenant's name."""
        return Millrace(self.bus, tenant, self.feed)

    async def submit(
        self,
        agent: str,
        input: str | list[InputMessage],
        *,
        session: str | None = None,
        task: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task:
        """Submit a task; durable when this returns. Repeating a task id changes nothing.

        Raises:
            Permanent: `invalid_name`, `invalid_traceparent`, `payload_too_large`; `task_id_used`
                for an id that the session had a moment ago, before it was deleted;
                `idempotency_conflict` for one that the request of another fingerprint has named.
            Transient: `bus_unavailable`.
        """
        ref = SessionRef(self.tenant, session or mint_id("s"))
        name = check_token(task or mint_id("task"), "task")
        content = input if isinstance(input, str) else tuple(input)
        terms = options.get("terms", NO_TERMS)
        submitted = TaskSubmitted(
            input=content,
            limits=options.get("limits") or LimitsPatch(),
            sampling=options.get("sampling"),
            metadata=options.get("metadata") or {},
            on_busy=options.get("on_busy"),
            tools=terms.tools,
            instructions=terms.instructions,
            route=terms.route,
            demands=terms.demands,
            priority=terms.priority,
            fingerprint=options.get("fingerprint", ""),
        )
        parent = _parent(options.get("traceparent"))
        origin = Origin(options.get("trace_id", ""), options.get("key", ""), parent)
        ack = await until_acknowledged(
            lambda: submit_task(self.bus, ref, agent, name, submitted, origin)
        )
        if ack.duplicate and not await self.log.holds(ack.seq):
            raise Permanent("task_id_used", f"{name!r} was deleted with its session", field="task")
        if ack.duplicate and submitted.fingerprint:
            await self._check_repeated(ref, ack.seq, submitted.fingerprint)
        return Task(self, ref.session, name, ack.seq - 1)

    async def _check_repeated(self, ref: SessionRef, seq: int, fingerprint: str) -> None:
        for stored in await self.log.read(ref, seq - 1):
            if stored.seq == seq and isinstance(stored.fact, TaskSubmitted):
                check_repeated(stored.fact, fingerprint)

    def task(self, task: str, session: str) -> Task:
        """A task whose session is known."""
        return Task(self, check_token(session, "session"), check_token(task, "task"), None)

    async def find_task(self, task: str) -> Task:
        """A task by its id alone.

        Raises:
            Permanent: `unknown_task` (a task that waits in a queue is found by its session only).
        """
        ref = await self.log.find_task(self.tenant, check_token(task, "task"))
        if ref is None:
            raise Permanent("unknown_task", f"no task {task!r} was accepted here", field="task")
        return Task(self, ref.session, task, None)

    def session(self, name: str) -> Session:
        """A session by its name; it exists from its first task on."""
        return Session(self, SessionRef(self.tenant, check_token(name, "session")))

    async def fork(self, session: str, *, at: int | str, **options: Unpack[ForkOptions]) -> Session:
        """A new session that goes on from a step: `<task>.<n>`, or a step of the last task.

        Results before the step are taken over, not made again. It runs when this returns.

        Raises:
            Permanent: `unknown_session`, `unknown_task`, `unknown_step`, `session_exists`,
                `invalid_step`, `invalid_name`, `invalid_arguments`.
            Transient: `no_responders` while no sessions service runs.
        """
        order = fork_request(options.get("name") or mint_id("s"), at, options)
        await send_order(self.bus, self.session(session).ref, "fork", order)
        return self.session(order.session)

    def documents(self, collection: str = "default") -> Documents:
        """A collection of documents."""
        return Documents(self.bus, self.tenant, check_token(collection, "collection"))

    async def sessions(self) -> list[str]:
        """The names of all sessions that the log holds, sorted."""
        return await self.log.sessions(self.tenant)

    @property
    def schedules(self) -> Schedules:
        """Tasks that are submitted at a time, at an interval or by cron."""
        return Schedules(self.bus, self.tenant)

    def dead(self, *, everyone: bool = False) -> DeadLetters:
        """The tenant's dead letters; `everyone`'s are for whoever runs the system."""
        return DeadLetters(self.bus, None if everyone else self.tenant)

    def complete(self, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
        """A stateless completion; the last event has `done` or `error`. Closing it aborts it.

        Raises:
            Transient: `no_responders` when no router runs, `request_timeout` when nothing comes.
        """
        return complete(self.bus, request)

    async def workers(self) -> list[WorkerState]:
        """The inference workers that are alive."""
        entries = await KeyValue(self.bus, WORKERS).entries()
        return [decode(entry.value, WorkerState) for entry in entries]

    async def agents(self) -> dict[str, tuple[int, AgentSpec]]:
        """The agents this tenant can use: name -> revision and definition."""
        found: dict[str, tuple[int, AgentSpec]] = {}
        for owner in (SHARED_TENANT, self.tenant):
            for entry in await KeyValue(self.bus, AGENTS).entries(f"{owner}.>"):
                name = entry.key.partition(".")[2]
                found[name] = (entry.revision, decode(entry.value, AgentSpec))
        return found


class Task(Control):
    """One request to a session."""

    def __init__(self, client: Millrace, session: str, task: str, start: int | None) -> None:
        self._client = client
        self._ref = SessionRef(client.tenant, session)
        self._start = start
        self.id = task
        self.session = session

    async def events(self, after: str = "") -> AsyncGenerator[Event]:
        """Facts and deltas of this task in order, each once, until its `done`.

        `after` is the id of the last event seen.

        Raises:
            Permanent: `invalid_cursor`.
            Transient: `bus_unavailable`.
        """
        begin = 0 if after else await self._beginning()
        feed = self._client.feed
        async with aclosing(feed.follow(self._ref, after, begin=begin)) as events:
            async for event in events:
                if event.task == self.id:
                    yield event
                    if isinstance(event.data, Done):
                        return

    async def _beginning(self) -> int:
        """The sequence before the task's first fact."""
        if self._start is None:
            stored = await self._client.log.accepted(self._ref, self.id)
            fact = None if stored is None else stored.fact
            self._start = fact.source - 1 if isinstance(fact, Accepted) else 0
        return self._start

    async def result(self, timeout: float = 60.0) -> Done:  # noqa: ASYNC109  # contract name
        """Wait for the end.

        Raises:
            Transient: `still_running` after `timeout` seconds; the task goes on.
        """
        try:
            async with asyncio.timeout(timeout), aclosing(self.events()) as events:
                async for event in events:
                    if isinstance(event.data, Done):
                        return event.data
        except TimeoutError as error:
            raise Transient("still_running", f"no result in {timeout:g} s") from error
        raise Transient("still_running", "the log ended before the task")

    async def facts(self) -> list[StoredFact]:
        """What the log holds of this task now."""
        stored = await self._client.log.read(self._ref, await self._beginning())
        return [fact for fact in stored if fact.task == self.id]

    async def order(self, verb: str, order: Message) -> int:
        """A request of `Control`, sent to the session."""
        return await send_order(self._client.bus, self._ref, verb, order)

    async def retry(self, task: str | None = None, by: str = "", key: str = "") -> Task:
        """Go on where this task failed, as a new task of the session; see `Control.retry_as`.

        A name that is given makes it once, also when it has run meanwhile.
        """
        name = task or mint_id("task")
        made = Task(self._client, self.session, name, None)
        known = () if task is None else await made.facts()
        if not any(_retries(stored, self.id) for stored in known):
            await self.retry_as(name, by, key)
        return made


def _retries(stored: StoredFact, task: str) -> bool:
    return isinstance(stored.fact, TaskSubmitted) and stored.fact.retry_of == task


def _parent(header: str | None) -> TraceContext | None:
    """The span that a task is submitted from, where its client names one."""
    if header is None:
        return None
    if (found := context_of(header)) is None:
        detail = f"{header[:80]!r} is no W3C traceparent: 00-<32 hex>-<16 hex>-<2 hex>"
        raise Permanent("invalid_traceparent", detail, field="traceparent")
    return found


class Session:
    """The durable object behind a conversation."""

    def __init__(self, client: Millrace, ref: SessionRef) -> None:
        self._client = client
        self.ref = ref

    async def history(self, after: int = 0) -> list[StoredFact]:
        """The facts of the session after a sequence."""
        return await self._client.log.read(self.ref, after)

    async def events(self, after: str = "", *, follow: bool = True) -> AsyncGenerator[Event]:
        """Facts and deltas of all tasks of the session; endless while `follow` is on."""
        async with aclosing(self._client.feed.follow(self.ref, after, follow=follow)) as events:
            async for event in events:
                yield event

    async def replay(self) -> AsyncGenerator[ReplayRow]:
        """Every fact beside what the present code decides from there on."""
        async with aclosing(replay_rows(self._client.bus, self.ref)) as rows:
            async for row in rows:
                yield row

    async def replay_at(self, seq: int) -> ReplayReply:
        """The last fact up to a sequence, the state behind it and all that is due there."""
        return await replay_page(self._client.bus, self.ref, ReplayQuery(at=seq))

    async def check(self) -> Check:
        """Compare every decision with what the log shows."""
        return await check_session(self._client.bus, self.ref)

    async def origin(self) -> Forked | None:
        """Where the session goes on from, if it is a fork."""
        first = await self._client.log.first(self.ref)
        return first.fact if first is not None and isinstance(first.fact, Forked) else None

    async def note(
        self,
        messages: Sequence[InputMessage] = (),
        *,
        hidden: Sequence[str] = (),
        metadata: dict[str, str] | None = None,
        note: str = "",
        by: str = "",
    ) -> int:
        """Set messages down without asking for an answer, hide what was said, name its metadata.

        It makes the session where there is none. The same `note` is set down once.

        Raises:
            Permanent: `session_busy`, `missing_result`, `unknown_call`, `invalid_name`.
            Transient: `no_responders` while no sessions service runs.
        """
        order = NoteSession(
            note=check_token(note or mint_id("note"), "note"),
            messages=tuple(messages),
            hidden=tuple(hidden),
            metadata=metadata,
            by=by,
        )
        return await send_order(self._client.bus, self.ref, "note", order)

    async def delete(self, *, force: bool = False, by: str = "") -> DeleteReply:
        """Forget the session, everywhere and for good; its name may be used again.

        With it go the sessions of the agents that it asked, and the schedules that name it.
        Durable when this returns. Where `complete` is not set, the rest goes on by itself.

        Raises:
            Permanent: `unknown_session`; `has_forks`; `session_busy` while a task has not ended,
                except with `force`, which cancels it first.
            Transient: `still_stopping`, or `no_responders` while no sessions service runs.
        """
        order = DeleteSession(force=force, by=by)
        subject = control_subject(self.ref, "delete")
        return await ask(self._client.bus, subject, order, DeleteReply, _DELETION)
