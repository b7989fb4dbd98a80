"""A system for the command line's tests: a recorded log behind the client's surface, a terminal
that a test types into, and findings for `doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from services.cli.core.checks import Check
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, LimitsPatch
from shared.contracts.base import SessionRef
from shared.contracts.control import DeleteReply
from shared.contracts.dead import Filed, Letters, Retried, Wanted
from shared.contracts.ledger import TasksQuery, TasksReply, UsageQuery, UsageReply
from shared.contracts.log import Event, StoredFact
from shared.contracts.retrieval import IndexState, Passage, SearchReply
from shared.contracts.workers import WorkerState
from shared.errors import Permanent, Transient
from tests.fakes.housekeeping import FakeHousekeeping, FakeLetters
from tests.fakes.ledger_log import REF, START, Recorder


def event_of(stored: StoredFact) -> Event:
    return Event(str(stored.seq), stored.kind, stored.time, stored.task, stored.fact)


class FakeTask:
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
    asked: list[tuple[str, str, str | None, LimitsPatch | None]] = field(default_factory=list)
    cancelled: list[tuple[str, str]] = field(default_factory=list)
    house: FakeHousekeeping = field(default_factory=FakeHousekeeping)
    unaccepted: set[str] = field(default_factory=set)
    collections: dict[str, FakeDocuments] = field(default_factory=dict)

    async def ask(
        self, agent: str, question: str, session: str | None, limits: LimitsPatch | None
    ) -> FakeTask:
        self.asked.append((agent, question, session, limits))
        return FakeTask(self, "t1", session or REF.session)

    def task(self, task: str, session: str) -> FakeTask:
        return FakeTask(self, task, session)

    async def find_task(self, task: str) -> FakeTask:
        for stored in self.facts:
            if stored.task == task and task not in self.unaccepted:
                return FakeTask(self, task, stored.ref.session)
        raise Permanent("unknown_task", f"no task {task!r} was accepted here", field="task")

    def session(self, name: str) -> FakeSession:
        return FakeSession(self, name)

    def dead(self, *, everyone: bool = False) -> OwnLetters:
        return OwnLetters(self.house.letters_, None if everyone else self.tenant)

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
        return self.used


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


NOW = START + 60.0
