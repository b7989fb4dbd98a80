"""`decide(state, world) -> actions`: what has to be done now.

Deterministic: after any crash a new owner folds the same facts, decides the same actions and
performs them under the same ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from services.sessions.core.state import Hold, Pending, Queued, Running, SessionState
from shared.contracts.agents import AgentSpec, Limits, LimitsPatch
from shared.contracts.base import Message, SessionRef, step_id
from shared.contracts.facts import (
    Accepted,
    Done,
    Fact,
    Parked,
    Status,
    Steered,
    ToolCall,
    ToolFailed,
)
from shared.contracts.tasks import said
from shared.contracts.work import RouteStep, RunTool
from shared.errors import Failure

WATCH = 150.0
"""Seconds after which a task is looked at again, whatever happens. More than the two minutes for
which the broker knows message ids: what is handed out again then is no repetition to it."""


@dataclass(frozen=True, slots=True)
class World:
    """What a decision may depend on beside the log. Whatever it yields becomes a fact."""

    now: float
    agents: Mapping[str, tuple[int, AgentSpec]]


@dataclass(frozen=True, slots=True)
class Append:
    """Append a fact."""

    fact: Fact
    trace_id: str

    @property
    def id(self) -> str:
        """Names the action; the same decision has the same id."""
        fact = self.fact
        which = getattr(fact, "id", "") or getattr(fact, "attempt", 1)
        hold = getattr(fact, "hold", 0)
        return f"{type(fact).__name__}/{getattr(fact, 'task', '')}/{step_of(fact)}/{which}/{hold}"


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand a step to the router or to the tools."""

    work: RouteStep | RunTool
    trace_id: str

    @property
    def id(self) -> str:
        """Names the action."""
        return f"work/{step_id(self.work.task, self.work.step)}/{self.work.attempt}"


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Start a durable timer of a task (epoch seconds of the log's clock).

    `name` is `watch`, or `<kind>-<step>-<attempt>` for what a step or a limit waits for.
    """

    task: str
    at: float
    name: str

    @property
    def id(self) -> str:
        """Names the action; a timer that is moved is another one."""
        return f"timer/{self.task}/{self.name}/{self.at:.3f}"


@dataclass(frozen=True, slots=True)
class Stop:
    """Whatever runs for this task has become useless: tell the engines, drop the timers."""

    task: str

    @property
    def id(self) -> str:
        """Names the action."""
        return f"stop/{self.task}"


Action = Append | Publish | SetTimer | Stop


def step_of(fact: Message) -> int | Literal[""]:
    """The step number of a fact that has one."""
    step: int | Literal[""] = getattr(fact, "step", "")
    return step


def decide(state: SessionState, world: World) -> list[Action]:
    """All that has to be done in this state. Repeating it repeats ids, never effects."""
    found = (_before_it_starts(state, queued, world) for queued in state.queue)
    actions: list[Action] = [action for action in found if action is not None]
    if state.running is not None:
        return actions + _drive(state.ref, state.running, world.now)
    # a refusal depends on the agents of this moment, so a task is accepted only when the log says
    # that all before it have ended: an `accepted` that overtakes another one is lost for ever
    if not actions and state.queue:
        actions += _accept(state.queue[0], world)
    return actions


def _before_it_starts(state: SessionState, queued: Queued, world: World) -> Append | None:
    """The end of a task that never starts, or its joining of the one that runs."""
    status: Status = "failed"
    error = queued.refusal
    if error is None and queued.agent not in world.agents:
        error = Failure(
            code="unknown_agent", detail=f"there is no agent {queued.agent!r}", field="agent"
        )
    if queued.cancelled:
        status, error = "cancelled", None
    elif error is None:
        return _joining(state.running, queued)
    done = Done(task=queued.task, status=status, error=error, joined=queued.joined)
    return Append(done, queued.trace_id)


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
    submitted = queued.submitted
    if submitted is None:  # a refusal came first
        return []
    revision, agent = world.agents[queued.agent]
    limits = merge_limits(agent.limits, submitted.limits)
    accepted = Accepted(
        task=queued.task,
        agent=agent,
        revision=revision,
        limits=limits,
        sampling=submitted.sampling or agent.sampling,
        deadline=world.now + limits.deadline_s,
        source=queued.seq,
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
        return [Stop(running.task), Append(done, running.trace_id)]
    steps = [_step(ref, running, pending, now) for pending in running.pending]
    held = [] if running.hold is None else [_held(running, running.hold)]
    # the timer follows the log, not the acceptance: a crash between the two must not lose it
    return [*steps, *held, _watch(running)]


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


def _step(ref: SessionRef, running: Running, pending: Pending, now: float) -> Action:
    accepted, call = running.accepted, pending.call
    name = f"{pending.step}-{pending.attempt}"
    if pending.parked is not None:
        until = pending.parked_at + accepted.agent.approval_s
        return SetTimer(running.task, until, f"approval-{name}")
    if pending.due is not None and now < pending.due:
        return SetTimer(running.task, pending.due, f"retry-{name}")
    if call is None:
        return Publish(_model_call(ref, running, pending), running.trace_id)
    if call.name not in accepted.agent.tools:
        failure = Failure(
            code="tool_not_allowed", detail=f"agent {accepted.agent.name} has no tool {call.name}"
        )
        refused = ToolFailed(
            task=running.task, step=pending.step, call=call.id, name=call.name, error=failure
        )
        return Append(refused, running.trace_id)
    if call.name in accepted.agent.approve and not pending.approved:
        parked = Parked(
            task=running.task,
            step=pending.step,
            reason="approval",
            detail=f"{call.name} {call.arguments}",
            attempt=pending.attempt,
        )
        return Append(parked, running.trace_id)
    return Publish(_tool_call(ref, running, pending, call), running.trace_id)


def _model_call(ref: SessionRef, running: Running, pending: Pending) -> RouteStep:
    accepted = running.accepted
    return RouteStep(
        ref=ref,
        task=running.task,
        step=pending.step,
        route=accepted.agent.route,
        seq=pending.seq,
        sampling=accepted.sampling,
        tools=accepted.agent.tools,
        attempt=pending.attempt,
        deadline=running.deadline,
        skip=pending.skip,
    )


def _tool_call(ref: SessionRef, running: Running, pending: Pending, call: ToolCall) -> RunTool:
    agent = running.accepted.agent
    return RunTool(
        ref=ref,
        task=running.task,
        step=pending.step,
        call=call.id,
        name=call.name,
        arguments=call.arguments,
        collection=agent.collection,
        deadline=running.deadline,
        attempt=pending.attempt,
        final=pending.tries + 1 >= agent.retry.tool_tries,
    )
