"""An in-memory system behind the ingress's ports: a log that tests write, and a scripted model.

It keeps the ports' guarantees: repeated task ids change nothing, events come in order and end
with `done`, a closed completion is aborted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field

from services.ingress.core.tasks.bodies import ForkBody
from services.ingress.core.tasks.repetition import check_same_request
from services.ingress.core.tasks.state import Order
from services.ingress.ports import Query, TaskHandle
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, Sampling
from shared.contracts.base import Message, SessionRef, check_token
from shared.contracts.control import ApproveStep, GiveResult, RejectStep, RetryTask, SteerTask
from shared.contracts.documents import DocumentChanged
from shared.contracts.log import Event, StoredFact
from shared.contracts.retrieval import EmbedReply, Passage, SearchReply
from shared.contracts.schedules import Schedule, Scheduled, pattern_of
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import DirectRequest
from shared.contracts.workers import WorkerState
from shared.control import Control
from shared.errors import Permanent, Transient
from shared.events import Merger, parse_cursor
from shared.fork import fork_request
from shared.subjects import BY_TYPE

Names = list[str]
NOW = 1_790_000_000.0
AGENT = AgentSpec(name="assistant", route="default", sampling=Sampling(max_tokens=99))


@dataclass
class FakeSystem:
    """All driven ports in one. `script` is what the model answers, `refuse` what calls raise."""

    log: list[StoredFact] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    requests: list[DirectRequest] = field(default_factory=list)
    script: list[DirectEvent | Exception] = field(default_factory=list)
    plan: list[Message] = field(default_factory=list)
    """Facts that follow a submission or a client's result at once."""
    texts: dict[tuple[str, str, str], DocumentChanged] = field(default_factory=dict)
    alive: list[WorkerState] = field(default_factory=list)
    embedding: tuple[str, ...] = ()
    """Embedding models and routes to some."""
    away: list[str] = field(default_factory=list)
    refuse: Exception | None = None
    hang: bool = False
    gate: asyncio.Event | None = None
    """Holds every event of a completion but the first until it is set."""
    aborted: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    bill: list[tuple[str, f.Completed]] = field(default_factory=list)
    sent: list[tuple[str, Message]] = field(default_factory=list)
    taken: dict[tuple[str, str], str] = field(default_factory=dict)

    def check(self) -> None:
        if self.refuse is not None:
            raise self.refuse

    def add(self, ref: SessionRef, fact: Message, task: str = "", agent: str = "") -> StoredFact:
        """Append a fact."""
        kind = BY_TYPE[type(fact)].token
        seq = len(self.log) + 1
        name = task or str(getattr(fact, "task", ""))
        stored = StoredFact(seq, 1000.0 + seq, ref, kind, agent, name, fact)  # type: ignore[arg-type]  # facts only
        self.log.append(stored)
        self.changed.set()
        return stored

    # -- Tasks
    async def submit(self, order: Order, trace_id: str) -> TaskHandle:
        self.check()
        handle = FakeTask(self, order.ref, order.task)
        if await handle.facts():
            return handle
        self.orders.append(order)
        self.traces.append(trace_id)
        terms = order.terms
        body = TaskSubmitted(
            input=order.input,
            metadata=order.metadata,
            sampling=order.sampling,
            tools=terms.tools,
            instructions=terms.instructions,
            route=terms.route,
            demands=terms.demands,
            fingerprint=order.fingerprint,
        )
        self.add(order.ref, body, order.task, order.agent)
        for fact in self.plan:
            self.add(order.ref, _for_task(fact, order.task))
        return handle

    def task(self, ref: SessionRef, task: str) -> TaskHandle:
        self.check()
        return FakeTask(self, ref, task)

    async def known(self, ref: SessionRef, task: str) -> TaskHandle | None:
        return await self.find(ref.tenant, task)

    async def find(self, tenant: str, task: str) -> TaskHandle | None:
        self.check()
        for stored in self.log:
            if stored.ref.tenant == tenant and stored.task == task:
                return FakeTask(self, stored.ref, task)
        return None

    async def exists(self, ref: SessionRef) -> bool:
        return any(stored.ref == ref for stored in self.log)

    async def check_place(self, ref: SessionRef, seq: int) -> None:
        found = self.log[seq - 1].ref if 0 < seq <= len(self.log) else None
        if found != ref:
            raise Permanent("invalid_cursor", "another session", field="after")

    async def events(self, ref: SessionRef, after: str = "") -> AsyncGenerator[Event]:
        merger = Merger(parse_cursor(after))
        while True:
            self.changed.clear()
            for stored in await self.history(ref):
                for event in merger.fact(stored):
                    yield event
            await self.changed.wait()

    async def history(self, ref: SessionRef, after: int = 0) -> list[StoredFact]:
        self.check()
        return [stored for stored in self.log if stored.ref == ref and stored.seq > after]

    async def note(self, ref: SessionRef, note: f.Noted) -> int:
        self.check()
        return self.add(ref, note).seq

    async def fork(self, ref: SessionRef, body: ForkBody, key: str) -> tuple[str, f.Forked]:
        self.check()
        order = fork_request(body.session or "s9", body.at, {"results": body.results})
        if not await self.exists(ref):
            raise Permanent("unknown_session", f"there is no session {ref.session!r}")
        task = order.task or self.log[-1].task
        made = f.Forked(parent=ref.session, at=len(self.log), task=task, step=order.step, key=key)
        self.add(SessionRef(ref.tenant, order.session), made)
        return order.session, made

    # -- Keyed
    async def take(self, tenant: str, name: str, fingerprint: str) -> bool:
        free = (tenant, name) not in self.taken
        check_same_request(self.taken.setdefault((tenant, name), fingerprint), fingerprint)
        return free

    async def give_back(self, tenant: str, name: str) -> None:
        del self.taken[tenant, name]

    # -- Completions
    async def complete(self, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
        self.check()
        self.requests.append(request)
        ended = False
        try:
            for event in self.script:
                if isinstance(event, Exception):
                    raise event
                if self.gate is not None and event is not self.script[0]:
                    await self.gate.wait()
                ended = event.done is not None or event.error is not None
                yield event
            if self.hang:
                await asyncio.Event().wait()
        finally:
            self.aborted += not ended

    # -- Documents
    async def put(
        self, tenant: str, collection: str, document: str, text: str, metadata: dict[str, str]
    ) -> int:
        self.check()
        change = DocumentChanged(document=document, text=text, metadata=metadata)
        self.texts[tenant, collection, document] = change
        return len(self.texts)

    async def delete(self, tenant: str, collection: str, document: str) -> int:
        del self.texts[tenant, collection, document]
        return len(self.texts) + 2

    async def get(self, tenant: str, collection: str, document: str) -> DocumentChanged | None:
        return self.texts.get((tenant, collection, document))

    async def list(self, tenant: str, collection: str) -> Sequence[str]:
        return sorted(key[2] for key in self.texts if key[:2] == (tenant, collection))

    async def search(self, tenant: str, collection: str, query: Query) -> SearchReply:
        self.check()
        words = query.text.lower().split()
        found = [
            Passage(
                document=key[2],
                text=change.text,
                score=0.5,
                start=0,
                end=len(change.text),
                sequence=1,
                highlight=change.text if query.highlight else "",
            )
            for key, change in self.texts.items()
            if key[:2] == (tenant, collection)
            and any(word in change.text.lower() for word in words)
        ]
        return SearchReply(results=tuple(found[: query.limit]), watermark=len(self.texts))

    # -- Records
    async def used(self, tenant: str, fact: f.Completed, trace_id: str) -> None:
        self.check()
        self.bill.append((tenant, fact))

    async def embed(self, texts: tuple[str, ...]) -> EmbedReply:
        self.check()
        vectors = tuple((float(len(text)), 0.5) for text in texts)
        return EmbedReply(vectors=vectors, model="all-MiniLM-L6-v2", tokens=len(texts))

    # -- Catalog and Health
    async def agents(self, tenant: str) -> Mapping[str, tuple[int, AgentSpec]]:
        self.check()
        return {"assistant": (1, AGENT)}

    async def routes(self) -> Sequence[str]:
        return ["default", *self.embedding]

    def embeds(self, name: str) -> bool:
        return name in self.embedding

    def has_model(self, name: str) -> bool:
        return name in ("default", "nano", *self.embedding)

    async def workers(self) -> Sequence[WorkerState]:
        return self.alive

    async def missing(self) -> Names:
        return self.away


def _for_task(fact: Message, task: str) -> Message:
    return type(fact)(
        **{name: getattr(fact, name) for name in fact.__struct_fields__ if name != "task"},
        task=task,
    )


@dataclass
class FakeTask(Control):
    """Port `TaskHandle` over the list of facts."""

    system: FakeSystem
    ref: SessionRef
    id: str

    @property
    def session(self) -> str:
        return self.ref.session

    async def events(self, after: str = "") -> AsyncGenerator[Event]:
        merger = Merger(parse_cursor(after))
        while True:
            self.system.changed.clear()
            for stored in await self.facts():
                for event in merger.fact(stored):
                    yield event
                    if isinstance(event.data, f.Done):
                        return
            self.system.check()
            await self.system.changed.wait()

    async def result(self, timeout: float = 60.0) -> f.Done:  # noqa: ASYNC109  # the port's name
        try:
            async with asyncio.timeout(timeout):
                async for event in self.events():
                    if isinstance(event.data, f.Done):
                        return event.data
        except TimeoutError as error:
            raise Transient("still_running") from error
        raise Transient("still_running")

    async def facts(self) -> list[StoredFact]:
        return [one for one in self.system.log if one.ref == self.ref and one.task == self.id]

    async def cancel(self, by: str = "", reason: str = "") -> int:
        if not await self.facts():
            raise Permanent("unknown_task", "not here")
        if any(isinstance(one.fact, f.Done) for one in await self.facts()):
            raise Permanent("task_ended", "it has ended")
        return self.system.add(self.ref, f.Cancelled(task=self.id, by=by, reason=reason)).seq

    async def order(self, verb: str, order: Message) -> int:
        """What the session would do: record it where it can be."""
        self.system.check()
        self.system.sent.append((verb, order))
        match order:
            case SteerTask():
                fact: Message = f.Steered(task=self.id, id=order.id, text=order.text, by=order.by)
            case ApproveStep():
                fact = f.Approved(task=self.id, step=order.step, by=order.by, note=order.note)
            case RejectStep():
                fact = f.Rejected(task=self.id, step=order.step, by=order.by, note=order.note)
            case GiveResult():
                return await self._given(order)
            case RetryTask():
                body = TaskSubmitted(input="", retry_of=self.id)
                return self.system.add(self.ref, body, order.retry, "assistant").seq
            case _:
                raise Permanent("unknown_verb", verb)
        return self.system.add(self.ref, fact).seq

    async def _given(self, order: GiveResult) -> int:
        """The first result of a call counts."""
        step = await self._step_of(order.call)
        for stored in await self.facts():
            if isinstance(stored.fact, f.Approved) and stored.fact.step == step:
                return stored.seq
        given = f.Approved(
            task=self.id, step=step, by=order.by, result=order.result, terms=order.terms
        )
        seq = self.system.add(self.ref, given).seq
        for fact in self.system.plan:
            self.system.add(self.ref, _for_task(fact, self.id))
        return seq

    async def _step_of(self, call: str) -> int:
        for stored in await self.facts():
            if isinstance(fact := stored.fact, f.Inferred):
                for place, one in enumerate(fact.tool_calls, 1):
                    if one.id == call:
                        return fact.step + place
        raise Permanent("unknown_call", "no such call", field="call")

    async def retry(self, task: str | None = None, by: str = "", key: str = "") -> FakeTask:
        name = task or f"retry{len(self.system.log)}"
        await self.retry_as(name, by, key)
        return FakeTask(self.system, self.ref, name)


class FakeSchedules:
    """Port `Schedules`; what only the server refuses is not known here."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Scheduled] = {}

    async def put(self, tenant: str, name: str, schedule: Schedule) -> int:
        pattern_of(schedule, NOW)
        sequence = len(self.kept) + 1
        place = (tenant, check_token(name, "name"))
        self.kept[place] = Scheduled(name, schedule, sequence, NOW)
        return sequence

    async def get(self, tenant: str, name: str) -> Scheduled:
        if (tenant, name) not in self.kept:
            raise Permanent("unknown_schedule", f"there is no schedule {name!r}", field="name")
        return self.kept[tenant, name]

    async def list(self, tenant: str) -> Sequence[Scheduled]:
        return [self.kept[place] for place in sorted(self.kept) if place[0] == tenant]

    async def delete(self, tenant: str, name: str) -> None:
        await self.get(tenant, name)
        del self.kept[tenant, name]
