"""`decide(state, world) -> actions`: what has to be done now.

Deterministic: after any crash a new owner folds the same facts, decides the same actions and
performs them under the same ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from services.sessions.core.state import Pending, Queued, Running, SessionState
from shared.contracts.agents import AgentSpec, Limits, LimitsPatch
from shared.contracts.base import Message, SessionRef, step_id
from shared.contracts.facts import Accepted, Done, Fact, Status, ToolFailed
from shared.contracts.work import RouteStep, RunTool
from shared.errors import Failure


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
        return f"{type(self.fact).__name__}/{getattr(self.fact, 'task', '')}/{step_of(self.fact)}"


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand a step to the router or to the tools."""

    work: RouteStep | RunTool
    trace_id: str

    @property
    def id(self) -> str:
        """Names the action."""
        return f"work/{step_id(self.work.task, self.work.step)}"


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Start the durable deadline timer of a task (epoch seconds)."""

    task: str
    at: float

    @property
    def id(self) -> str:
        """Names the action."""
        return f"timer/{self.task}"


@dataclass(frozen=True, slots=True)
class Stop:
    """Whatever runs for this task has become useless: tell the engines, drop the timer."""

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
    found = (_refusal(queued, world) for queued in state.queue)
    actions: list[Action] = [refused for refused in found if refused is not None]
    if state.running is not None:
        return actions + _drive(state.ref, state.running)
    # a refusal depends on the agents of this moment, so a task is accepted only when the log says
    # that all before it have ended: an `accepted` that overtakes another one is lost for ever
    if not actions and state.queue:
        actions += _accept(state.queue[0], world)
    return actions


def _refusal(queued: Queued, world: World) -> Append | None:
    """The end of a task that never starts."""
    status: Status = "failed"
    error = queued.refusal
    if error is None and queued.agent not in world.agents:
        error = Failure(
            code="unknown_agent", detail=f"there is no agent {queued.agent!r}", field="agent"
        )
    if queued.cancelled:
        status, error = "cancelled", None
    elif error is None:
        return None
    return Append(Done(task=queued.task, status=status, error=error), queued.trace_id)


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
    given = {name: getattr(patch, name) for name in patch.__struct_fields__}
    wanted = {name: value for name, value in given.items() if value is not None}
    return replace(
        limits, **{name: min(value, getattr(limits, name)) for name, value in wanted.items()}
    )


def _drive(ref: SessionRef, running: Running) -> list[Action]:
    if running.verdict is not None:
        done = Done(
            task=running.task,
            status=running.verdict,
            output=running.output if running.verdict == "completed" else "",
            error=running.error,
            totals=running.totals,
        )
        return [Stop(running.task), Append(done, running.trace_id)]
    # the timer follows the log, not the acceptance: a crash between the two must not lose it
    timer = SetTimer(running.task, running.accepted.deadline)
    return [*(_step(ref, running, pending) for pending in running.pending), timer]


def _step(ref: SessionRef, running: Running, pending: Pending) -> Action:
    accepted, call = running.accepted, pending.call
    if call is None:
        route = RouteStep(
            ref=ref,
            task=running.task,
            step=pending.step,
            route=accepted.agent.route,
            seq=pending.seq,
            sampling=accepted.sampling,
            tools=accepted.agent.tools,
            deadline=accepted.deadline,
        )
        return Publish(route, running.trace_id)
    if call.name not in accepted.agent.tools:
        failure = Failure(
            code="tool_not_allowed", detail=f"agent {accepted.agent.name} has no tool {call.name}"
        )
        refused = ToolFailed(
            task=running.task, step=pending.step, call=call.id, name=call.name, error=failure
        )
        return Append(refused, running.trace_id)
    tool = RunTool(
        ref=ref,
        task=running.task,
        step=pending.step,
        call=call.id,
        name=call.name,
        arguments=call.arguments,
        collection=accepted.agent.collection,
        deadline=accepted.deadline,
    )
    return Publish(tool, running.trace_id)
