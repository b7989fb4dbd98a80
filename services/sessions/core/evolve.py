"""`evolve(state, fact) -> state`: the fold. Here: tasks come, start, are interrupted and end.

A fact that is not expected (a second result of a step, a result after the end) changes nothing.

    task ---> queue ---accepted---> running ---done---> ended
                |                    |   ^
      joins the running task         v   |   see progress.py
                                    steps
"""

from __future__ import annotations

from msgspec.structs import replace

from services.sessions.core.delegate import forged
from services.sessions.core.progress import advance
from services.sessions.core.state import Ended, Pending, Queued, Running, SessionState
from shared.contracts.agents import OnBusy
from shared.contracts.facts import (
    Accepted,
    Cancelled,
    Completed,
    Deleted,
    Done,
    Forked,
    Noted,
    Refused,
    Totals,
)
from shared.contracts.log import KEY_HEADER, Malformed, StoredFact
from shared.contracts.tasks import NO_TERMS, TaskSubmitted, terms_of
from shared.errors import Failure


def evolve(state: SessionState, stored: StoredFact) -> SessionState:
    """The state after a fact. Facts up to `state.seq` are known already."""
    if stored.seq <= state.seq:
        return state
    state = replace(state, seq=stored.seq)
    fact = stored.fact
    match fact:
        case TaskSubmitted() | Malformed():
            return _submitted(state, stored) if stored.kind == "task" else state
        case Accepted() | Forked() | Deleted():
            return _turned(state, fact, stored.time)
        case Done():
            return _ended(state, fact)
        case Cancelled():
            return _cancelled(state, fact)
        case Completed() | Noted() | Refused():
            return state
        case _:
            running = state.running
            if running is None or running.task != fact.task or running.verdict is not None:
                return state
            return replace(state, running=advance(running, fact, stored.seq, stored.time))


def _submitted(state: SessionState, stored: StoredFact) -> SessionState:
    known = {queued.task for queued in state.queue} | state.ended
    if state.running is not None:
        known |= {state.running.task}
    if stored.task in known:
        return state
    fact = stored.fact
    submitted = fact if isinstance(fact, TaskSubmitted) else None
    queued = Queued(
        task=stored.task,
        agent=stored.rest,
        seq=stored.seq,
        trace_id=stored.trace_id,
        key=stored.headers.get(KEY_HEADER, ""),
        submitted=submitted,
        refusal=replace(fact.error, code="invalid_task") if isinstance(fact, Malformed) else None,
    )
    if submitted is None:
        return replace(state, queue=(*state.queue, queued))
    if forged(state.ref, queued):
        error = Failure(code="invalid_task", detail="only the loop names a parent", field="parent")
        return replace(state, queue=(*state.queue, replace(queued, submitted=None, refusal=error)))
    if submitted.retry_of:
        queued = replace(queued, refusal=retry_refusal(state, submitted.retry_of))
        return replace(state, queue=(*state.queue, queued))
    return _admitted(state, queued, submitted.on_busy)


def retry_refusal(state: SessionState, task: str) -> Failure | None:
    """Why a task cannot be gone on with, if so."""
    latest = state.latest
    if task not in state.ended:
        return Failure(code="not_failed", detail=f"task {task} has not ended", field="task")
    if not state.idle or latest is None or latest.task != task:
        return Failure(code="superseded", detail=f"another task came after {task}", field="task")
    if latest.status == "completed":
        return Failure(code="not_failed", detail=f"task {task} was completed", field="task")
    return None


def _admitted(state: SessionState, queued: Queued, wanted: OnBusy | None) -> SessionState:
    """What becomes of a task that meets a running one, or one that waits."""
    running = state.running
    policy = wanted or (running.accepted.agent.on_busy if running is not None else "queue")
    if policy == "steer" and queued.submitted and terms_of(queued.submitted) != NO_TERMS:
        policy = "queue"  # what it brings along cannot be said to another task
    if policy == "queue" or state.idle:
        return replace(state, queue=(*state.queue, queued))
    if policy == "reject":
        busy = Failure(code="session_busy", detail="the session works on another task")
        return replace(state, queue=(*state.queue, replace(queued, refusal=busy)))
    if policy == "interrupt":
        if running is not None and running.verdict is None:
            error = Failure(code="interrupted", detail=f"task {queued.task} took its place")
            running = replace(running, verdict="cancelled", error=error, pending=(), hold=None)
        # not to the front: tasks start in the order of the log, else a loop that is behind could
        # accept another one meanwhile, and that acceptance would be lost for ever
        return replace(state, running=running, queue=(*state.queue, queued))
    if running is not None and running.verdict is None:
        queued = replace(queued, join=running.task)
    return replace(state, queue=(*state.queue, queued))


def _turned(state: SessionState, fact: Accepted | Forked | Deleted, now: float) -> SessionState:
    """Something begins: a task, a fork, or the session's next life."""
    if isinstance(fact, Accepted):
        return _accepted(state, fact, now)
    return _forked(state, fact, now) if isinstance(fact, Forked) else _deleted(state, fact)


def _deleted(state: SessionState, fact: Deleted) -> SessionState:
    """Nothing is left of what it covers.

    All of that had ended, but whoever was behind may find the ends purged, or know it from a
    snapshot only. Tasks that slipped in behind `upto` go on.
    """
    running = state.running
    if running is not None and running.since <= fact.upto:
        running = None
    queue = tuple(one for one in state.queue if one.seq > fact.upto)
    return replace(state, running=running, queue=queue, ended=frozenset(), latest=None)


def _accepted(state: SessionState, fact: Accepted, now: float) -> SessionState:
    queued = next((one for one in state.queue if one.task == fact.task), None)
    if queued is None or state.running is not None:
        return state
    running = Running(
        accepted=fact,
        trace_id=queued.trace_id,
        limits=fact.limits,
        since=state.seq,
        started=now,
        deadline=now + fact.limits.deadline_s,
        watched=now,
        pending=(Pending(step=0, seq=state.seq, asked=now),),
        parent=queued.submitted.parent if queued.submitted is not None else None,
        key=queued.key,
        fresh=True,
        served=state.served,
        verdict="cancelled" if queued.cancelled else None,
    )
    return replace(state, running=running, queue=_without(state, fact.task))


def _without(state: SessionState, task: str) -> tuple[Queued, ...]:
    return tuple(one for one in state.queue if one.task != task)


def _ended(state: SessionState, fact: Done) -> SessionState:
    running, task = state.running, fact.task
    agent = next((one.agent for one in state.queue if one.task == task), "")
    queue, terms, served = _without(state, task), NO_TERMS, state.served
    if running is not None and running.task == task:
        agent, terms = running.accepted.agent.name, running.accepted.terms
        served, running = running.served, None
        queue = tuple(_alone(one, state.running) for one in queue)
    last = Ended(task=task, agent=agent, status=fact.status, terms=terms)
    latest = state.latest if fact.joined else last
    ended = state.ended | {task}
    return replace(state, running=running, queue=queue, ended=ended, latest=latest, served=served)


def _alone(queued: Queued, ended: Running | None) -> Queued:
    """A task that was to join the one that ended: it was heard, or it starts on its own."""
    if ended is None or queued.join != ended.task:
        return queued
    if queued.task in ended.steers:
        return replace(queued, join="", joined=ended.task)
    return replace(queued, join="")


def _cancelled(state: SessionState, fact: Cancelled) -> SessionState:
    running = state.running
    if running is not None and running.task == fact.task:
        verdict = running.verdict or "cancelled"
        return replace(state, running=replace(running, verdict=verdict, pending=(), hold=None))
    queue = tuple(
        replace(one, cancelled=True) if one.task == fact.task else one for one in state.queue
    )
    return replace(state, queue=queue)


def _forked(state: SessionState, fact: Forked, now: float) -> SessionState:
    """The task that was taken over runs on from here: its clock starts anew, and so do its sums.

    What it used before the fork was used, and paid, in the parent.
    """
    running = state.running
    if running is None or running.task != fact.task:
        return state
    hold = running.hold
    if hold is not None and hold.parked_at is not None:
        hold = replace(hold, parked_at=now)
    pending = tuple(
        replace(
            one, due=None, asked=now, parked_at=now if one.parked is not None else one.parked_at
        )
        for one in running.pending
    )
    again = replace(
        running,
        parent=None,  # whoever asked has, or gets, the answer of the other one
        key=fact.key,
        started=now,
        deadline=now + running.limits.deadline_s,
        watched=now,
        waiting_since=None if running.waiting_since is None else now,
        pending=pending,
        hold=hold,
        totals=Totals(),
    )
    return replace(state, running=again)
