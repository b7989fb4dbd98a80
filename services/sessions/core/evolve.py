"""`evolve(state, fact) -> state`: the fold.

A fact that is not expected (a second result of a step, a result after the end) changes nothing.

    task ---> queue ---accepted---> running ---done---> ended
                                     |   ^
                 all calls answered  v   |  tool results
                            infer step -> tool steps (in parallel)
"""

from __future__ import annotations

from msgspec.structs import replace

from services.sessions.core.state import Pending, Queued, Running, SessionState
from shared.contracts.facts import (
    Accepted,
    Cancelled,
    Deleted,
    Done,
    InferFailed,
    Inferred,
    TimerFired,
    ToolDone,
    ToolFailed,
)
from shared.contracts.log import Malformed, StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Failure


def evolve(state: SessionState, stored: StoredFact) -> SessionState:
    """The state after a fact. Facts up to `state.seq` are known already."""
    if stored.seq <= state.seq:
        return state
    state = replace(state, seq=stored.seq)
    fact = stored.fact
    if isinstance(fact, Deleted):  # all that it covers had ended
        return replace(state, ended=frozenset())
    match fact:
        case TaskSubmitted() | Malformed() if stored.kind == "task":
            return _submitted(state, stored)
        case Accepted():
            return _accepted(state, fact)
        case Done():
            return _ended(state, fact.task)
        case Cancelled():
            return _cancelled(state, fact)
        case Inferred() | InferFailed() | ToolDone() | ToolFailed() | TimerFired():
            return _advanced(state, fact, stored.seq)
        case _:
            return state


def _advanced(
    state: SessionState, fact: Inferred | InferFailed | ToolDone | ToolFailed | TimerFired, seq: int
) -> SessionState:
    running = state.running
    if running is None or running.task != fact.task or running.verdict is not None:
        return state
    return replace(state, running=_progress(running, fact, seq))


def _submitted(state: SessionState, stored: StoredFact) -> SessionState:
    known = {queued.task for queued in state.queue} | state.ended
    if state.running is not None:
        known |= {state.running.task}
    if stored.task in known:
        return state
    fact = stored.fact
    queued = Queued(
        task=stored.task,
        agent=stored.rest,
        seq=stored.seq,
        trace_id=stored.trace_id,
        submitted=fact if isinstance(fact, TaskSubmitted) else None,
        refusal=replace(fact.error, code="invalid_task") if isinstance(fact, Malformed) else None,
    )
    return replace(state, queue=(*state.queue, queued))


def _accepted(state: SessionState, fact: Accepted) -> SessionState:
    queued = next((one for one in state.queue if one.task == fact.task), None)
    if queued is None or state.running is not None:
        return state
    running = Running(
        accepted=fact,
        trace_id=queued.trace_id,
        pending=(Pending(step=0, seq=state.seq),),
        verdict="cancelled" if queued.cancelled else None,
    )
    return replace(state, running=running, queue=_without(state, fact.task))


def _without(state: SessionState, task: str) -> tuple[Queued, ...]:
    return tuple(one for one in state.queue if one.task != task)


def _ended(state: SessionState, task: str) -> SessionState:
    running = state.running
    if running is not None and running.task == task:
        running = None
    return replace(state, running=running, queue=_without(state, task), ended=state.ended | {task})


def _cancelled(state: SessionState, fact: Cancelled) -> SessionState:
    running = state.running
    if running is not None and running.task == fact.task:
        verdict = running.verdict or "cancelled"
        return replace(state, running=replace(running, verdict=verdict, pending=()))
    queue = tuple(
        replace(one, cancelled=True) if one.task == fact.task else one for one in state.queue
    )
    return replace(state, queue=queue)


def _progress(
    running: Running, fact: Inferred | InferFailed | ToolDone | ToolFailed | TimerFired, seq: int
) -> Running:
    if isinstance(fact, TimerFired):
        limit = running.accepted.limits.deadline_s
        return _fail(running, "deadline_exceeded", f"the task ran longer than {limit:g} s")
    if not any(one.step == fact.step for one in running.pending):
        return running  # the first result of a step wins
    left = tuple(one for one in running.pending if one.step != fact.step)
    match fact:
        case InferFailed():
            return replace(running, verdict="failed", error=fact.error, pending=())
        case Inferred():
            return _inferred(running, fact, seq)
        case ToolDone() | ToolFailed():
            totals = replace(
                running.totals,
                steps=running.totals.steps + 1,
                tool_steps=running.totals.tool_steps + 1,
            )
            running = replace(running, totals=totals, pending=left)
            return running if left else _next_inference(running, seq)


def _inferred(running: Running, fact: Inferred, seq: int) -> Running:
    before = running.totals
    totals = replace(
        before,
        steps=before.steps + 1,
        infer_steps=before.infer_steps + 1,
        usage=before.usage + fact.usage,
        price=before.price + fact.price,
    )
    running = replace(running, totals=totals, pending=(), output=fact.content)
    if not fact.tool_calls:
        return replace(running, verdict="completed")
    limit = running.accepted.limits.max_steps
    if running.next_step + len(fact.tool_calls) > limit:
        return _fail(running, "step_limit", f"the task needs more than {limit} steps")
    pending = tuple(
        Pending(step=running.next_step + n, seq=seq, call=call)
        for n, call in enumerate(fact.tool_calls)
    )
    return replace(running, pending=pending, next_step=running.next_step + len(pending))


def _next_inference(running: Running, seq: int) -> Running:
    limits, used = running.accepted.limits, running.totals.usage
    if running.next_step >= limits.max_steps:
        return _fail(running, "step_limit", f"the task needs more than {limits.max_steps} steps")
    if used.input + used.output >= limits.max_tokens:
        return _fail(running, "token_limit", f"the task used its {limits.max_tokens} tokens")
    return replace(
        running,
        pending=(Pending(step=running.next_step, seq=seq),),
        next_step=running.next_step + 1,
    )


def _fail(running: Running, code: str, detail: str) -> Running:
    error = Failure(code=code, detail=detail)
    return replace(running, verdict="failed", error=error, pending=())
