"""A system for the command line's tests: a recorded log behind the client's surface, a terminal
that a test types into, and findings for `doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Unpack

from services.cli.core.checks import Check
from services.sessions.adapters.replays import answer
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, LimitsPatch, OnBusy
from shared.contracts.base import Message, SessionRef, check_token
from shared.contracts.control import DeleteReply, ForkSession
from shared.contracts.dead import Filed, Letters, Retried, Wanted
from shared.contracts.ledger import (
    LedgerQuery,
    LedgerState,
    RebuildLedger,
    TasksQuery,
    TasksReply,
    UsageQuery,
    UsageReply,
)
from shared.contracts.log import Event, StoredFact
from shared.contracts.replay import Check as Compared
from shared.contracts.replay import ReplayQuery, ReplayReply, ReplayRow
from shared.contracts.retrieval import IndexState, Passage, SearchReply
from shared.contracts.schedules import Schedule, Scheduled, pattern_of
from shared.contracts.workers import WorkerState
from shared.control import Control
from shared.errors import MillraceError, Permanent, Transient
from shared.fork import ForkOptions, fork_request
from tests.fakes.housekeeping import FakeHousekeeping, FakeLetters
from tests.fakes.keys import FakeTenantKeys
from tests.fakes.ledger_log import REF, START, Recorder


def event_of(stored: StoredFact) -> Event:
    return Event(str(stored.seq), stored.kind, stored.time, stored.task, stored.fact)


class FakeTask(Control):
    """Plays the recorded facts of a task; with `hangs` it stops before `done` until cancelled."""

    def __init__(self, system: FakeSystem, task: str, session: str) -> None:
        self.id, self.session = task, session
        self._system = system
        self._cancelled = asyncio.Event()

    async def events(self, after: str = "") -> AsyncGenerator[Event]:
        for stored in [one for one in self._system.facts if one.task == self.id]:
            if isinstance(stored.fact, f.Done) and self._system.hangs:
                await self._cancelled.wait()
                log = Recorder()
                done = f.Done(task=self.id, status="cancelled")
                yield event_of(log.add(done, 1.0))
                return
            yield event_of(stored)

    async def result(self, timeout: float = 60.0) -> f.Done:  # noqa: ASYNC109  # the client's name
        async for event in self.events():
            if isinstance(event.data, f.Done):
                return event.data
        raise Transient("still_running")

    async def cancel(self, by: str = "", reason: str = "") -> int:
        self._system.cancelled.append((self.id, by))
        self._cancelled.set()
        return 99

    async def facts(self) -> list[StoredFact]:
        return [one for one in self._system.facts if one.task == self.id]

    async def order(self, verb: str, order: Message) -> int:
        if self._system.refusal is not None:
            raise self._system.refusal
        self._system.orders.append((verb, order))
        return 100 + len(self._system.orders)

    async def retry(self, task: str | None = None, by: str = "") -> FakeTask:
        await self.retry_as(task or "t1", by)
        return FakeTask(self._system, task or "t1", self.session)


class FakeSession:
    def __init__(self, system: FakeSystem, name: str) -> None:
        self._system, self._name = system, name
        self._facts = [fact for fact in system.facts if fact.ref.session == name]

    async def delete(self, *, force: bool = False, by: str = "") -> DeleteReply:
        ref = SessionRef(self._system.tenant, self._name)
        self._system.house.sessions |= {fact.ref for fact in self._facts}
        return await self._system.house.delete_session(ref, force=force, by=by)

    async def history(self, after: int = 0) -> list[StoredFact]:
        return [fact for fact in self._facts if fact.seq > after]

    async def events(self, after: str = "", *, follow: bool = True) -> AsyncGenerator[Event]:
        for fact in self._facts:
            if fact.seq > int(after or 0):
                yield event_of(fact)

    async def read(self, ref: SessionRef, after: int = 0) -> list[StoredFact]:
        return await self.history(after)

    async def replay(self) -> AsyncGenerator[ReplayRow]:
        for row in (await answer(self, REF, ReplayQuery(limit=5000))).rows:
            yield row

    async def replay_at(self, seq: int) -> ReplayReply:
        return await answer(self, REF, ReplayQuery(at=seq))

    async def check(self) -> Compared:
        page = await answer(self, REF, ReplayQuery(limit=5000, differences=True))
        return Compared(page.facts, page.rows[0] if page.rows else None)


class FakeSchedules:
    """Keeps schedules; what the server would refuse is not known here."""

    def __init__(self) -> None:
        self.kept: dict[str, Scheduled] = {}

    async def put(self, name: str, schedule: Schedule) -> int:
        pattern_of(schedule, NOW)
        sequence = len(self.kept) + 1
        self.kept[check_token(name, "name")] = Scheduled(name, schedule, sequence, NOW)
        return sequence

    async def list(self) -> Sequence[Scheduled]:
        return [self.kept[name] for name in sorted(self.kept)]

    async def delete(self, name: str) -> None:
        if self.kept.pop(name, None) is None:
            raise Permanent("unknown_schedule", f"there is no schedule {name!r}", field="name")


class FakeFork(FakeSession):
    """A fork of a session whose last task is `t1`."""

    def __init__(self, ref: SessionRef, parent: str, order: ForkSession) -> None:
        super().__init__(FakeSystem(), ref.session)
        self.ref = ref
        self._origin = f.Forked(parent=parent, at=1, task=order.task or "t1", step=order.step)

    async def origin(self) -> f.Forked | None:
        return self._origin


@dataclass
class OwnLetters:
    """The letters of a tenant, or all."""

    store: FakeLetters
    tenant: str | None

    async def list(self, wanted: Wanted | None = None, after: int = 0, limit: int = 50) -> Letters:
        return await self.store.list(self.tenant, wanted, after, limit)

    async def get(self, letter: int) -> Filed:
        return await self.store.get(self.tenant, letter)

    async def retry(self, letter: int, by: str = "") -> Retried:
        return await self.store.retry(self.tenant, letter, by)


class FakeDocuments:
    """Keeps documents; the index is one step further at every question."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.sequence = 0
        self.indexed = 0

    async def upsert(self, document: str, text: str, metadata: dict[str, str] | None = None) -> int:
        self.texts[document] = text
        self.sequence += 1
        return self.sequence

    async def delete(self, document: str) -> int:
        del self.texts[document]
        self.sequence += 1
        return self.sequence

    async def list(self) -> list[str]:
        return sorted(self.texts)

    async def search(
        self, query: str, limit: int = 3, min_score: float = 0.0, min_seq: int = 0
    ) -> SearchReply:
        found = tuple(
            Passage(document=name, text=text, score=0.9, start=0, end=len(text), sequence=1)
            for name, text in self.texts.items()
            if query in text
        )
        return SearchReply(results=found[:limit], watermark=self.indexed)

    async def state(self) -> IndexState:
        state = IndexState(watermark=self.indexed, chunks=self.indexed, model="mini")
        self.indexed = min(self.sequence, self.indexed + 1)
        return state


@dataclass
class FakeSystem:
    """The `Client` of the command line."""

    facts: list[StoredFact] = field(default_factory=list)
    tenant: str = "default"
    hangs: bool = False
    alive: list[WorkerState] = field(default_factory=list)
    ledger: TasksReply | None = None
    used: UsageReply | None = None
    rebuilt: UsageReply | None = None
    """What the ledger says after a rebuild, where that is something else."""
    rebuilds: list[RebuildLedger] = field(default_factory=list)
    copies: dict[tuple[str, str], list[StoredFact]] = field(default_factory=dict)
    """By site and session."""
    index: list[IndexState | MillraceError] = field(default_factory=list)
    """What is answered about the index, one after the other; the last one for ever."""
    queries: list[UsageQuery] = field(default_factory=list)
    asked: list[tuple[str, str, str | None, LimitsPatch | None]] = field(default_factory=list)
    cancelled: list[tuple[str, str]] = field(default_factory=list)
    forked: list[tuple[str, ForkSession]] = field(default_factory=list)
    house: FakeHousekeeping = field(default_factory=FakeHousekeeping)
    unaccepted: set[str] = field(default_factory=set)
    collections: dict[str, FakeDocuments] = field(default_factory=dict)
    orders: list[tuple[str, Message]] = field(default_factory=list)
    refusal: MillraceError | None = None
    busy: list[str | None] = field(default_factory=list)
    schedules: FakeSchedules = field(default_factory=FakeSchedules)
    keys: FakeTenantKeys = field(default_factory=FakeTenantKeys)

    async def ask(
        self,
        agent: str,
        question: str,
        session: str | None,
        limits: LimitsPatch | None,
        on_busy: OnBusy | None = None,
    ) -> FakeTask:
        self.busy.append(on_busy)
        self.asked.append((agent, question, session, limits))
        return FakeTask(self, "t1", session or REF.session)

    def task(self, task: str, session: str) -> FakeTask:
        return FakeTask(self, task, session)

    async def find_task(self, task: str) -> FakeTask:
        for stored in self.facts:
            if stored.task == task and task not in self.unaccepted:
                return FakeTask(self, task, stored.ref.session)
        raise Permanent("unknown_task", f"no task {task!r} was accepted here", field="task")

    async def find_copy(self, task: str, site: str = "") -> tuple[str, str] | None:
        for (name, session), facts in self.copies.items():
            if site in ("", name) and any(one.task == task for one in facts):
                return name, session
        return None

    async def copy_of(self, site: str, session: str, after: int = 0) -> list[StoredFact]:
        return [one for one in self.copies.get((site, session), ()) if one.seq > after]

    def session(self, name: str) -> FakeSession:
        return FakeSession(self, name)

    def dead(self, *, everyone: bool = False) -> OwnLetters:
        return OwnLetters(self.house.letters_, None if everyone else self.tenant)

    async def sessions(self) -> list[str]:
        return sorted({fact.ref.session for fact in self.facts})

    async def fork(
        self, session: str, *, at: int | str, **options: Unpack[ForkOptions]
    ) -> FakeFork:
        order = fork_request(options.get("name") or "s9", at, options)
        self.forked.append((session, order))
        return FakeFork(SessionRef(self.tenant, order.session), session, order)

    def documents(self, collection: str = "default") -> FakeDocuments:
        return self.collections.setdefault(collection, FakeDocuments())

    async def workers(self) -> list[WorkerState]:
        return self.alive

    async def agents(self) -> dict[str, tuple[int, AgentSpec]]:
        return {"assistant": (3, AgentSpec(name="assistant"))}

    async def tasks(self, query: TasksQuery) -> TasksReply:
        if self.ledger is None:
            raise Transient("no_responders", "nobody answers ledger.tasks")
        return self.ledger

    async def usage(self, query: UsageQuery) -> UsageReply:
        if self.used is None:
            raise Transient("no_responders", "nobody answers ledger.usage")
        self.queries.append(query)
        return self.rebuilt if self.rebuilt is not None and self.rebuilds else self.used

    async def ledger_state(self, query: LedgerQuery) -> LedgerState:
        if self.used is None:
            raise Transient("no_responders", "nobody answers ledger.state")
        return LedgerState(sequence=44, settled=43)

    async def index_state(self) -> IndexState:
        if not self.index:
            raise Transient("no_responders", "nobody answers retrieval.state")
        found = self.index.pop(0) if len(self.index) > 1 else self.index[0]
        if isinstance(found, MillraceError):
            raise found
        return found

    async def rebuild_index(self) -> IndexState:
        return await self.index_state()

    async def rebuild_ledger(self, order: RebuildLedger) -> LedgerState:
        self.rebuilds.append(order)
        return LedgerState(replaying=True, replay_from=1, replay_until=44)


@dataclass
class FakeTerminal:
    """Presses Ctrl-C `presses` times, answers `confirm` and types `lines`."""

    presses: int = 0
    says_yes: bool = True
    interactive: bool = True
    lines: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    async def interrupted(self) -> None:
        if not self.presses:
            await asyncio.Event().wait()
        await asyncio.sleep(0.02)
        self.presses -= 1

    async def confirm(self, question: str) -> bool:
        self.questions.append(question)
        return self.says_yes

    async def line(self, prompt: str) -> str | None:
        return self.lines.pop(0) if self.lines else None


@dataclass
class FakeProbes:
    """Findings that a test has decided on."""

    found: Sequence[Check] = ()

    def machine(self) -> Sequence[Check]:
        return (Check("python", "ok", "3.12"),)

    async def system(self) -> Sequence[Check]:
        return self.found

    async def gpu(self) -> Sequence[Check]:
        return [Check("gpu", "failed", "no GPU here: it is a fake", "buy one")]


NOW = START + 60.0
