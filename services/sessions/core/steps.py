"""What a step that has no result needs: a worker, a tool, another agent, a person, or time."""

from __future__ import annotations

from typing import Literal

from services.sessions.core.actions import Action, Append, Delegate, Publish, SetTimer
from services.sessions.core.delegate import asked, question, specs
from services.sessions.core.state import Pending, Running
from services.sessions.core.terms import demands_now, is_clients
from shared.contracts.base import SessionRef, step_id
from shared.contracts.facts import Parked, ToolCall, ToolFailed
from shared.contracts.tasks import child_of
from shared.contracts.work import RouteStep, RunTool
from shared.errors import Failure


def step_action(ref: SessionRef, running: Running, pending: Pending, now: float) -> Action:
    """What a step without a result needs now: to be run, to wait, or to be asked about."""
    accepted, call = running.accepted, pending.call
    name = f"{pending.step}-{pending.attempt}"
    if pending.parked is not None:
        until = pending.parked_at + accepted.agent.approval_s
        return SetTimer(running.task, until, f"approval-{name}")
    if pending.due is not None and now < pending.due:
        return SetTimer(running.task, pending.due, f"retry-{name}")
    if call is None:
        return Publish(_model_call(ref, running, pending), running.trace_id)
    return _call_action(ref, running, pending, call)


def _call_action(ref: SessionRef, running: Running, pending: Pending, call: ToolCall) -> Action:
    """A call goes to the client, to another agent, to a person first, or to our tools."""
    accepted = running.accepted
    if is_clients(running, call):
        return _parked(running, pending, call, "client_tool")
    agent = asked(running, call)
    if agent is None and call.name not in accepted.agent.tools:
        failure = Failure(
            code="tool_not_allowed", detail=f"agent {accepted.agent.name} has no tool {call.name}"
        )
        return _refused(running, pending, call, failure)
    if call.name in accepted.agent.approve and not pending.approved:
        return _parked(running, pending, call, "approval")
    if agent is None:
        return Publish(_tool_call(ref, running, pending, call), running.trace_id)
    body = question(running, pending, call, ref)
    if isinstance(body, Failure):
        return _refused(running, pending, call, body)
    child, task = child_of(ref, running.task, pending.step)
    step = step_id(running.task, pending.step)
    return Delegate(child, agent, task, body, step, running.key, running.trace_id)


def _parked(
    running: Running, pending: Pending, call: ToolCall, reason: Literal["approval", "client_tool"]
) -> Append:
    """A call that somebody else has to decide on, or to answer."""
    parked = Parked(
        task=running.task,
        step=pending.step,
        reason=reason,
        detail=f"{call.name} {call.arguments}",
        attempt=pending.attempt,
    )
    return Append(parked, running.trace_id)


def _refused(running: Running, pending: Pending, call: ToolCall, failure: Failure) -> Append:
    """A call that is answered without being run."""
    fact = ToolFailed(
        task=running.task, step=pending.step, call=call.id, name=call.name, error=failure
    )
    return Append(fact, running.trace_id)


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
        agents=specs(running),
        skip=pending.skip,
        asked=pending.asked,
        demands=demands_now(running),
        functions=accepted.terms.tools,
        priority=running.priority,
        served=running.served,
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
        seq=pending.seq,
        asked=pending.asked,
        final=pending.tries + 1 >= agent.retry.tool_tries,
    )
