"""Agents that ask agents: a call becomes a task of a session of its own, its end the call's result.

    parent: pending call ask_<agent> --Submit--> child session: task ... done
                 ^                                                     |
                 +------------- tool_done / tool_failed ---------------+   before the child's `done`

The names of child session and task follow from the step, so a repeated decision asks once. What a
child may use is a share of what its parent has left; how deep it goes is bounded.
"""

from __future__ import annotations

import orjson

from services.sessions.core.state import Pending, Queued, Running
from shared.contracts.agents import LimitsPatch, ToolSpec
from shared.contracts.base import SessionRef
from shared.contracts.facts import Done, ToolCall, ToolDone, ToolFailed, Totals
from shared.contracts.tasks import Parent, TaskSubmitted, child_of
from shared.errors import Failure

PREFIX = "ask_"
_LONGEST = 4 << 20
_PARAMETERS: dict[str, object] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "What to ask, complete in itself."}},
    "required": ["input"],
}


def specs(running: Running) -> tuple[ToolSpec, ...]:
    """The agents that a task may ask, as the model sees them."""
    return tuple(
        ToolSpec(name=PREFIX + name, description=text, parameters=_PARAMETERS)
        for name, text in running.accepted.agent.agents.items()
    )


def asked(running: Running, call: ToolCall) -> str | None:
    """The agent that a call asks; None for a tool."""
    name = call.name.removeprefix(PREFIX)
    return name if call.name != name and name in running.accepted.agent.agents else None


def question(
    running: Running, pending: Pending, call: ToolCall, ref: SessionRef
) -> TaskSubmitted | Failure:
    """The task that answers a call, or why there is none."""
    depth = 1 if running.parent is None else running.parent.depth + 1
    if depth > running.limits.max_depth:
        return Failure(code="depth_limit", detail=f"agents ask agents {depth - 1} deep already")
    try:
        text = orjson.loads(call.arguments or "{}")["input"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        text = None
    if not isinstance(text, str) or not text:
        return Failure(
            code="invalid_arguments", detail="the text `input` is missing", field="input"
        )
    parent = Parent(
        session=ref.session,
        task=running.task,
        step=pending.step,
        call=call.id,
        name=call.name,
        depth=depth,
    )
    limits = _share(running)  # whoever waits for this task waits for that one, too
    return TaskSubmitted(input=text, limits=limits, parent=parent, priority=running.priority)


def _share(running: Running) -> LimitsPatch:
    """What is left, divided among the agents that are asked at once."""
    limits, share = running.limits, max(1, len(running.delegated))
    cost = None
    if limits.max_cost is not None:
        cost = max(0, (limits.max_cost - running.totals.price - running.spent.price) // share)
    return LimitsPatch(
        max_tokens=max(1, (limits.max_tokens - used_tokens(running)) // share),
        max_cost=cost,
        deadline_s=limits.deadline_s,
    )


def used_tokens(running: Running) -> int:
    """Tokens of the task and of all whom it asked."""
    own, others = running.totals.usage, running.spent.usage
    return own.input + own.output + others.input + others.output


def added(one: Totals, other: Totals) -> Totals:
    """The sum of two."""
    return Totals(
        steps=one.steps + other.steps,
        infer_steps=one.infer_steps + other.infer_steps,
        tool_steps=one.tool_steps + other.tool_steps,
        usage=one.usage + other.usage,
        price=one.price + other.price,
    )


def forged(ref: SessionRef, queued: Queued) -> bool:
    """Whether a task claims a parent that did not ask for it."""
    parent = queued.submitted.parent if queued.submitted is not None else None
    if parent is None:
        return False
    expected = child_of(SessionRef(ref.tenant, parent.session), parent.task, parent.step)
    return (ref, queued.task) != expected


def report(parent: Parent, done: Done, spent: Totals) -> ToolDone | ToolFailed:
    """The end of a task as the result of the call that asked for it."""
    total = added(done.totals, spent)
    error = done.error
    if done.status == "completed" and len(done.output.encode()) <= _LONGEST:
        return ToolDone(
            task=parent.task,
            step=parent.step,
            call=parent.call,
            name=parent.name,
            result=done.output,
            spent=total,
        )
    if done.status == "completed":
        error = Failure(code="result_too_large", detail=f"more than {_LONGEST} bytes")
    return ToolFailed(
        task=parent.task,
        step=parent.step,
        call=parent.call,
        name=parent.name,
        error=error or Failure(code="cancelled", detail="the agent was stopped"),
        spent=total,
    )
