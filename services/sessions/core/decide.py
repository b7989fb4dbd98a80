"""`decide(state, world) -> actions`: what has to be done now.

Deterministic: after any crash a new owner folds the same facts, decides the same actions and
performs them under the same ids.
"""

from __future__ import annotations

from msgspec.structs import replace

from services.sessions.core.actions import (
    Action,
    Append,
    Delegate,
    Publish,
    SetTimer,
    Stop,
    World,
    step_of,
)
from services.sessions.core.delegate import report
from services.sessions.core.state import Hold, Queued, Running, SessionState
from services.sessions.core.steps import step_action
from services.sessions.core.terms import agent_of, resolved, task_refusal
from shared.contracts.agents import Limits, LimitsPatch
from shared.contracts.base import SessionRef
from shared.contracts.facts import Accepted, Cancelled, Done, Parked, Status, Steered, Totals
from shared.contracts.tasks import Parent, child_of, said, terms_of
from shared.errors import Failure

__all__ = [
    "Action",
    "Append",
    "Delegate",
    "Publish",
    "SetTimer",
    "Stop",
    "World",
    "decide",
    "merge_limits",
    "step_of",
]

WATCH = 150.0
"""Seconds after which a task is looked at again, whatever happens. More than the two minutes for
which the broker knows message ids: what is handed out again then is no repetition to it."""


def decide(state: SessionState, world: World) -> list[Action]:
    """All that has to be done in this state. Repeating it repeats ids, never effects."""
    actions = [
        action for queued in state.queue for action in _before_it_starts(state, queued, world)
    ]
    if state.running is not None:
        return actions + _drive(state.ref, state.running, world.now)
    # a refusal depends on the agents of this moment, so a task is accepted only when the log says
    # that all before it have ended: an `accepted` that overtakes another one is lost for ever
    if not actions and state.queue:
        actions += _accept(state.queue[0], world)
    return actions


def _before_it_starts(state: SessionState, queued: Queued, world: World) -> list[Action]:
    """The end of a task that never starts, or its joining of the one that runs."""
    status: Status = "failed"
    error = queued.refusal or _refusal(queued, world)
    if queued.cancelled:
        status, error = "cancelled", None
    elif error is None:
        joining = _joining(state.running, queued)
        return [] if joining is None else [joining]
    done = Done(task=queued.task, status=status, error=error, joined=queued.joined)
    parent = queued.submitted.parent if queued.submitted is not None else None
    return [*_report(state.ref, parent, done, Totals()), Append(done, queued.trace_id)]


def _refusal(queued: Queued, world: World) -> Failure | None:
    """Why no agent of this moment can take the task."""
    found = agent_of(world.agents, queued.agent)
    if found is None:
        detail = f"there is no agent {queued.agent!r}"
        return Failure(code="unknown_agent", detail=detail, field="agent")
    return None if queued.submitted is None else task_refusal(found[1], queued.submitted)


def _report(ref: SessionRef, parent: Parent | None, done: Done, spent: Totals) -> list[Action]:
    """Whoever asked hears of the end first: after it nobody would think of telling."""
    if parent is None:
        return []
    return [Append(report(parent, done, spent), "", SessionRef(ref.tenant, parent.session))]


def _joining(running: Running | None, queued: Queued) -> Append | None:
    """First the running task hears it; when the log says so, the joined one has ended."""
    heard = running is not None and queued.task in running.steers
    if queued.joined or heard:
        done = Done(task=queued.task, status="completed", joined=queued.joined or queued.join)
        return Append(done, queued.trace_id)
    if queued.submitted is None or running is None or queued.join != running.task:
        return None
    if running.verdict is not None:
        return None
    text = said(queued.submitted)
    return Append(Steered(task=running.task, id=queued.task, text=text), queued.trace_id)


def _accept(queued: Queued, world: World) -> list[Action]:
    submitted, found = queued.submitted, agent_of(world.agents, queued.agent)
    if submitted is None or found is None:  # a refusal came first
        return []
    revision, agent = found
    terms = terms_of(submitted)
    limits = merge_limits(agent.limits, submitted.limits)
    accepted = Accepted(
        task=queued.task,
        agent=resolved(agent, terms),
        revision=revision,
        limits=limits,
        sampling=submitted.sampling or agent.sampling,
        deadline=world.now + limits.deadline_s,
        source=queued.seq,
        terms=terms,
    )
    return [Append(accepted, queued.trace_id)]


def merge_limits(limits: Limits, patch: LimitsPatch) -> Limits:
    """The agent's limits, tightened by the task; a task cannot loosen them."""
    found = {}
    for name in patch.__struct_fields__:
        wanted, bound = getattr(patch, name), getattr(limits, name)
        if wanted is not None:
            found[name] = wanted if bound is None else min(wanted, bound)
    return replace(limits, **found)


def _drive(ref: SessionRef, running: Running, now: float) -> list[Action]:
    if running.verdict is not None:
        done = Done(
            task=running.task,
            status=running.verdict,
            output=running.output if running.verdict == "completed" else "",
            error=running.error,
            totals=running.totals,
        )
        told = _report(ref, running.parent, done, running.spent)
        stopped = [_stop(ref, running, step) for step in running.delegated]
        return [Stop(running.task), *stopped, *told, Append(done, running.trace_id)]
    steps = [step_action(ref, running, pending, now) for pending in running.pending]
    held = [] if running.hold is None else [_held(running, running.hold)]
    # the timer follows the log, not the acceptance: a crash between the two must not lose it
    return [*steps, *held, _watch(running)]


def _stop(ref: SessionRef, running: Running, step: int) -> Append:
    """Nobody waits any more for an agent that was asked."""
    child, task = child_of(ref, running.task, step)
    return Append(Cancelled(task=task, by=running.task, reason="parent_ended"), "", child)


def _watch(running: Running) -> SetTimer:
    """Wakes the task at its deadline; and now and then before it, lest anything was lost."""
    at = running.watched + WATCH
    if running.waiting_since is None:  # a task that waits for a person has no deadline
        at = min(at, running.deadline)
    return SetTimer(running.task, at, "watch")


def _held(running: Running, hold: Hold) -> Action:
    """A limit is reached, and a person may raise it."""
    step = running.next_step
    if hold.parked_at is not None:
        until = hold.parked_at + running.accepted.agent.approval_s
        return SetTimer(running.task, until, f"limit-{step}-{hold.number}")
    parked = Parked(
        task=running.task,
        step=step,
        reason="budget",
        detail=f"{hold.error.code}: {hold.error.detail}",
        hold=hold.number,
    )
    return Append(parked, running.trace_id)
