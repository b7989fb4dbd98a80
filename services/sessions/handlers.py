"""The loop around the decider: folds facts session by session and performs the decisions.

Sessions run side by side, the facts of one session one after the other. A message is settled
only when everything that follows from it has been performed, so a crash repeats it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import islice

from msgspec.structs import replace

from services.sessions.core.control import (
    Order,
    continued,
    fired,
    given,
    given_before,
    noted,
    recorded,
    retried,
)
from services.sessions.core.decide import Action, Append, Publish, World, decide
from services.sessions.core.evolve import evolve
from services.sessions.core.fork import forked, made
from services.sessions.core.recent import RecentFacts
from services.sessions.core.state import SessionState
from services.sessions.ports import AgentCatalog, Effects, FactLog
from shared.contracts.base import SessionRef, check_token
from shared.contracts.control import (
    ControlReply,
    ForkSession,
    GiveResult,
    NoteSession,
    RetryTask,
)
from shared.contracts.facts import Deleted, Done, Fact, TimerFired
from shared.contracts.log import StoredFact
from shared.contracts.work import RouteStep
from shared.errors import MillraceError, Permanent, Transient
from shared.subjects import partition
from shared.telemetry import Handled, Log, handling

Settle = Callable[[bool], Awaitable[None]]
"""Ends a delivery: True acknowledges it, False asks for it again soon."""
_RETRY = 0.5
_LOOK = 16
"""Sessions looked at beyond those that are too many: the oldest ones may be busy."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many sessions stay in memory, and after how many facts the state of one is kept."""

    keep: int = 5000
    snapshot_every: int = 200


@dataclass(eq=False, slots=True)
class _Actor:
    """A session in memory: its state, the facts that wait, and what was performed already."""

    state: SessionState
    partition: int
    loaded: bool = False
    folded: int = 0
    """Facts since the last snapshot."""
    inbox: list[tuple[StoredFact, Settle]] = field(default_factory=list)
    performed: set[str] = field(default_factory=set)
    recent: RecentFacts = field(default_factory=RecentFacts)
    repeating: bool = False
    """Decisions may have been performed before: what they hand out must be checked in the log."""
    busy: asyncio.Task[None] | None = None
    retry: bool = False


class Sessions:
    """All sessions that this process keeps in memory; idle ones are dropped beyond a bound."""

    def __init__(
        self,
        log: FactLog,
        effects: Effects,
        agents: AgentCatalog,
        clock: Callable[[], float],
        logger: Log,
        bounds: Bounds = Bounds(),
    ) -> None:
        self._log, self._effects, self._agents = log, effects, agents
        self._clock, self._logger, self._bounds = clock, logger, bounds
        self._actors: OrderedDict[SessionRef, _Actor] = OrderedDict()
        self._owns: Callable[[int], bool] = lambda _partition: True

    def fence(self, owns: Callable[[int], bool]) -> None:
        """From now on act only for the partitions that this says are ours."""
        self._owns = owns

    async def on_fact(self, stored: StoredFact, settle: Settle) -> None:
        """A fact arrived. Returns at once; `settle` is called when it has been dealt with."""
        actor = self._actor(stored.ref)
        actor.inbox.append((stored, settle))
        self._wake(actor)

    def unfinished(self) -> dict[int, list[SessionRef]]:
        """The sessions that have something to do, as far as this process knows, by partition."""
        found: dict[int, list[SessionRef]] = {}
        for ref, one in self._actors.items():
            if not (one.loaded and one.state.idle):
                found.setdefault(one.partition, []).append(ref)
        return found

    def forget(self, partition: int) -> None:
        """Drop the sessions of a partition: they are another one's, or to be read anew."""
        for ref in [ref for ref, one in self._actors.items() if one.partition == partition]:
            actor = self._actors.pop(ref)
            actor.inbox, actor.retry = [], False

    async def redrive(self, refs: list[SessionRef]) -> None:
        """Decide again for these sessions: what was handed out may be lost (it is in memory)."""
        for ref in refs:
            actor = self._actor(ref)
            actor.performed.clear()
            actor.loaded = False
            actor.repeating = True
            actor.retry = True
            self._wake(actor)

    async def order(self, ref: SessionRef, order: Order) -> ControlReply:
        """Record what a person asks: cancel, steer, approve or reject.

        Raises:
            Permanent: why it cannot be (`services.sessions.core.control.recorded`).
            Transient: the log cannot be reached.
        """
        state = await self._current(ref)
        fact = recorded(state, order)
        return ControlReply(sequence=await self._effects.perform(ref, _told(state, fact)))

    async def result(self, ref: SessionRef, order: GiveResult) -> ControlReply:
        """Record what a client's tool returned; one that was given before is found in the log.

        Raises:
            Permanent: `unknown_call`, `not_parked`; why the terms with it cannot be.
            Transient: the log cannot be reached.
        """
        state = await self._current(ref)
        fact = given(state, order)
        if fact is None:
            return ControlReply(sequence=given_before(await self._log.read(ref), order))
        return ControlReply(sequence=await self._effects.perform(ref, _told(state, fact)))

    async def note(self, ref: SessionRef, order: NoteSession) -> ControlReply:
        """Set something down in a session.

        Raises:
            Permanent: `session_busy`, `invalid_name`, `missing_result`, `unknown_call`.
            Transient: the log cannot be reached.
        """
        fact = noted(await self._current(ref), order)
        return ControlReply(sequence=await self._effects.perform(ref, Append(fact, "")))

    async def retry(self, ref: SessionRef, order: RetryTask) -> ControlReply:
        """Go on with a task that failed, as a new task of the session.

        Raises:
            Permanent: `unknown_task`, `not_failed`, `superseded`, `invalid_name`.
            Transient: the log cannot be reached.
        """
        latest = retried(await self._current(ref), order)
        name = check_token(order.retry, "retry")
        task = continued(latest, order)
        seq = await self._effects.submit(ref, latest.agent, name, task, order.key)
        return ControlReply(sequence=seq)

    async def fork(self, ref: SessionRef, order: ForkSession) -> ControlReply:
        """Let a new session go on from a step of this one.

        Raises:
            Permanent: `session_exists`; else why it cannot be (`services.sessions.core.fork`).
            Transient: the log cannot be reached.
        """
        fact = forked(ref.session, await self._log.read(ref), order)
        child = SessionRef(ref.tenant, order.session)
        first = await self._log.first(child)
        if first is None:
            await self._effects.perform(child, Append(fact, ""))
            first = await self._log.first(child)  # a task may have come before it
        return ControlReply(sequence=made(child, first, fact))

    async def fired(self, ref: SessionRef, task: str, timer: str, now: float) -> None:
        """A timer of a task went off at `now` (the broker's clock).

        Raises:
            Transient: the log cannot be reached.
        """
        state = await self._current(ref)
        fact = fired(state, task, timer, now)
        if fact is not None:
            await self._effects.perform(ref, _told(state, fact))

    async def drain(self, partition: int | None = None) -> None:
        """Wait until everything in hand (of a partition) is dealt with."""
        while tasks := [
            a.busy
            for a in self._actors.values()
            if a.busy and not a.busy.done() and partition in (None, a.partition)
        ]:
            await asyncio.wait(tasks)

    async def _current(self, ref: SessionRef) -> SessionState:
        """The state as the log has it now, not as far as deliveries have come."""
        actor = self._actors.get(ref)
        if actor and actor.loaded:
            state, missed = actor.state, await self._log.read(ref, actor.state.seq)
        else:
            state, missed = await self._log.load(ref)
        for stored in missed:
            state = evolve(state, stored)
        return state

    def _actor(self, ref: SessionRef) -> _Actor:
        actor = self._actors.get(ref)
        if actor is None:
            where = partition(ref.tenant, ref.session)
            actor = self._actors[ref] = _Actor(SessionState(ref=ref), where)
            self._evict()
        self._actors.move_to_end(ref)
        return actor

    def _evict(self) -> None:
        excess = len(self._actors) - self._bounds.keep
        if excess <= 0:
            return
        oldest = islice(self._actors.items(), excess + _LOOK)
        idle = [ref for ref, actor in oldest if _is_idle(actor)]
        for ref in idle[:excess]:
            del self._actors[ref]

    def _wake(self, actor: _Actor) -> None:
        if actor.busy is None:
            actor.busy = asyncio.create_task(self._run(actor))

    async def _run(self, actor: _Actor) -> None:
        try:
            while actor.inbox or actor.retry:
                batch, actor.inbox = actor.inbox, []
                actor.retry = False
                await self._batch(actor, batch)
        finally:
            actor.busy = None

    async def _batch(self, actor: _Actor, batch: list[tuple[StoredFact, Settle]]) -> None:
        """Fold, decide, perform, settle."""
        try:
            await self._load(actor)
            for stored, _ in batch:
                handling(Handled(headers=stored.headers, stored=stored))
                _fold(actor, stored)
            if not self._owns(actor.partition):
                return  # whoever owns it now goes on from the log
            await self._perform(actor)
        except Transient as error:
            await self._later(actor, batch, error)
            return
        for _, settle in batch:
            await settle(True)
        if any(isinstance(stored.fact, Deleted) for stored, _ in batch):
            await self._drop_snapshot(actor)
        elif actor.folded >= self._bounds.snapshot_every:
            await self._snapshot(actor)

    async def _later(
        self, actor: _Actor, batch: list[tuple[StoredFact, Settle]], error: Transient
    ) -> None:
        self._logger.warning("session.retry", session=str(actor.state.ref), error=str(error))
        for _, settle in batch:
            await settle(False)
        actor.retry = not (actor.loaded and actor.state.idle)
        await asyncio.sleep(_RETRY)

    async def _snapshot(self, actor: _Actor) -> None:
        """Keep the state, so that whoever loads the session next need not read all of its log."""
        try:
            await self._log.save(actor.state)
        except MillraceError as error:
            self._logger.info("snapshot.later", session=str(actor.state.ref), error=str(error))
        actor.folded = 0

    async def _drop_snapshot(self, actor: _Actor) -> None:
        """One that this process kept late may have come behind the erasing."""
        try:
            await self._log.forget(actor.state.ref)
        except MillraceError as error:
            self._logger.info("snapshot.left", session=str(actor.state.ref), error=str(error))
        actor.folded = 0

    async def _load(self, actor: _Actor) -> None:
        """Bring a cold session up to the end of its log, not only to the fact in hand:

        a decision made from an old prefix would do again what has a result already.
        """
        if not actor.loaded:
            if actor.state.seq:
                missed = await self._log.read(actor.state.ref, actor.state.seq)
            else:
                actor.state, missed = await self._log.load(actor.state.ref)
            known = actor.state.seq
            for stored in missed:
                actor.state = evolve(actor.state, stored)
            actor.folded += len(missed)
            actor.recent.start(None if known or actor.repeating else 0, missed)
            actor.loaded, actor.repeating = True, False

    async def _perform(self, actor: _Actor) -> None:
        ref = actor.state.ref
        world = World(now=self._clock(), agents=self._agents.of(ref.tenant))
        todo = [a for a in decide(actor.state, world) if a.id not in actor.performed]
        for action in [a for a in todo if isinstance(a, Append) and a.ref is not None]:
            await self._one(actor, action)  # what another session has to know comes first
            todo.remove(action)
        if len(todo) == 1:  # the hot path: no task for it
            await self._one(actor, todo[0])
        elif todo:
            await asyncio.gather(*(self._one(actor, action) for action in todo))

    async def _one(self, actor: _Actor, action: Action) -> None:
        if isinstance(action, Publish) and isinstance(action.work, RouteStep):
            recent = actor.recent.upto(action.work.seq)
            action = Publish(replace(action.work, recent=recent), action.trace_id)
        try:
            await self._effects.perform(actor.state.ref, action)
        except Permanent as error:
            await self._impossible(actor, action, error)
        actor.performed.add(action.id)

    async def _impossible(self, actor: _Actor, action: Action, error: Permanent) -> None:
        """An action that the bus refuses ends its task with that error: it would hang for ever."""
        self._logger.error("session.refused", session=str(actor.state.ref), code=error.code)
        if isinstance(action, Append) and action.ref is not None:
            return  # of another session's task; its own deadline remains
        task = getattr(getattr(action, "fact", getattr(action, "work", None)), "task", None)
        if task is not None and not (isinstance(action, Append) and isinstance(action.fact, Done)):
            done = Done(task=task, status="failed", error=error.as_failure())
            await self._effects.perform(actor.state.ref, Append(done, ""))


def _told(state: SessionState, fact: Fact) -> Append:
    """A fact that somebody else brings, in the trace of the task that it is about."""
    running, task = state.running, getattr(fact, "task", "")
    return Append(fact, running.trace_id if running is not None and running.task == task else "")


def _is_idle(actor: _Actor) -> bool:
    return actor.loaded and actor.state.idle and not actor.inbox and actor.busy is None


def _fold(actor: _Actor, stored: StoredFact) -> None:
    """One more fact, and what it means for what was handed out."""
    if stored.seq > actor.state.seq:
        actor.recent.add(stored)
        actor.folded += 1
    actor.state = evolve(actor.state, stored)
    if isinstance(stored.fact, Done):
        _forget(actor, stored.fact.task)
    elif isinstance(stored.fact, Deleted):
        actor.performed.clear()  # its tasks' names may come again
        actor.recent.start(None)  # and what was said must go nowhere
    elif isinstance(stored.fact, TimerFired) and stored.fact.timer == "watch":
        actor.performed.clear()  # hand out again what has no result: it may be lost
        actor.recent.start(None)


def _forget(actor: _Actor, task: str) -> None:
    """Drop the names of a task's actions: it has ended, and nothing will be decided for it."""
    marks = (f"/{task}.", f"/{task}/")
    actor.performed = {
        name
        for name in actor.performed
        if not (name.endswith(f"/{task}") or any(mark in name for mark in marks))
    }
