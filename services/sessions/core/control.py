"""What people may ask of a session, judged on its state: the fact that records it, or why not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import orjson

from services.sessions.core.evolve import retry_refusal
from services.sessions.core.state import Ended, Hold, Pending, Running, SessionState
from services.sessions.core.terms import news, terms_refusal, unbalanced
from shared.contracts.base import check_token
from shared.contracts.control import (
    ApproveStep,
    CancelTask,
    GiveResult,
    NoteSession,
    RejectStep,
    RetryTask,
    SteerTask,
)
from shared.contracts.facts import (
    Approved,
    Cancelled,
    Fact,
    Inferred,
    Noted,
    Rejected,
    Steered,
    TimerFired,
)
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent, error_of

Order = CancelTask | SteerTask | ApproveStep | RejectStep


def recorded(state: SessionState, order: Order) -> Fact:
    """The fact that records a request.

    Raises:
        Permanent: `unknown_task`, `task_ended`, `not_running`, `not_parked`, `invalid_arguments`.
    """
    _check_known(state, order.task)
    match order:
        case CancelTask():
            return Cancelled(task=order.task, by=order.by, reason=order.reason)
        case SteerTask():
            running = _running(state, order.task)
            return Steered(task=running.task, id=order.id, text=order.text, by=order.by)
    running = _running(state, order.task)
    attempt, hold = _question(running, order.step)
    if isinstance(order, RejectStep):
        return Rejected(
            task=order.task,
            step=order.step,
            by=order.by,
            note=order.note,
            attempt=attempt,
            hold=hold,
        )
    _check_approval(running, order)
    return Approved(
        task=order.task,
        step=order.step,
        by=order.by,
        note=order.note,
        arguments=order.arguments,
        result=order.result,
        limits=order.limits,
        attempt=attempt,
        hold=hold,
    )


def noted(state: SessionState, order: NoteSession) -> Noted:
    """The fact that records what was set down.

    Raises:
        Permanent: `session_busy` while a task is under way, which would hear of it half-way;
            `missing_result`, `unknown_call` for messages that are not balanced.
    """
    if not state.idle and (order.messages or order.hidden):
        raise Permanent("session_busy", f"a task is under way in {state.ref}", field="session")
    if failure := unbalanced(order.messages):
        raise error_of(failure)
    return Noted(
        note=check_token(order.note, "note"),
        messages=order.messages,
        hidden=order.hidden,
        metadata=order.metadata,
        by=order.by,
    )


def given(state: SessionState, order: GiveResult) -> Approved | None:
    """The fact that records what a client's tool returned; None where nobody waits for it (now).

    Raises:
        Permanent: `not_parked` for a call that is not the client's to answer, or not yet; why the
            terms that come with it cannot be (`duplicate_tool`, `unknown_tool`, `invalid_name`).
    """
    running = state.running
    if running is None or running.task != order.task or running.verdict is not None:
        return None
    found = (one for one in running.pending if one.call and one.call.id == order.call)
    pending = next(found, None)
    if pending is None:
        return None
    if pending.parked != "client_tool":
        raise Permanent("not_parked", f"{order.call} does not wait for a client", field="call")
    if order.terms and (failure := terms_refusal(running.accepted.agent, order.terms)):
        raise error_of(failure)
    return Approved(
        task=order.task,
        step=pending.step,
        by=order.by,
        result=order.result,
        attempt=pending.attempt,
        terms=news(running, order.terms),
    )


def given_before(history: Iterable[StoredFact], order: GiveResult) -> int:
    """The sequence of the result that a call has had already.

    Raises:
        Permanent: `unknown_call` where the task made no such call; `task_ended` or `not_parked`
            where its result did not come from a client.
    """
    step = None
    for stored in (one for one in history if one.task == order.task):
        fact = stored.fact
        if isinstance(fact, Inferred):
            places = [n for n, call in enumerate(fact.tool_calls, 1) if call.id == order.call]
            step = fact.step + places[0] if places and step is None else step
        elif isinstance(fact, Approved) and fact.step == step and fact.result is not None:
            return stored.seq
    if step is None:
        detail = f"task {order.task} has made no call {order.call[:80]!r}"
        raise Permanent("unknown_call", detail, field="call")
    raise Permanent("not_parked", f"{order.call} waits for nobody any more", field="call")


def continued(latest: Ended, order: RetryTask) -> TaskSubmitted:
    """The task that goes on with one that failed, on its terms."""
    terms = latest.terms
    return TaskSubmitted(
        input="",
        retry_of=order.task,
        metadata={"retried_by": order.by},
        tools=terms.tools,
        instructions=terms.instructions,
        route=terms.route,
        demands=terms.demands,
        priority=terms.priority,
    )


def retried(state: SessionState, order: RetryTask) -> Ended:
    """The failed task, where it can be gone on with.

    Raises:
        Permanent: `unknown_task`, `not_failed`, `superseded`.
    """
    if order.task not in state.ended:
        _check_known(state, order.task)
    if refusal := retry_refusal(state, order.task):
        raise error_of(refusal)
    assert state.latest is not None  # noqa: S101  # nothing is refused only where there is one
    return state.latest


def fired(state: SessionState, task: str, name: str, now: float) -> TimerFired | None:
    """The fact of a timer that went off; None where nobody waits for it any more.

    `now` is the log's clock, and a watch beyond the deadline is the deadline.
    """
    running = state.running
    if running is None or running.task != task or running.verdict is not None:
        return None
    kind, _, place = name.partition("-")
    if kind in ("watch", "deadline"):
        late = running.waiting_since is None and now >= running.deadline
        count = 1 if late else int(now)
        return TimerFired(task=task, timer="deadline" if late else "watch", attempt=count)
    step, _, number = place.partition("-")
    if not (step.isdigit() and number.isdigit()):
        return None
    if kind == "limit":
        if running.hold is None or running.hold.number != int(number):
            return None
        return TimerFired(task=task, timer="approval", step=int(step), hold=int(number))
    if kind not in ("retry", "approval") or not any(_name(p) == place for p in running.pending):
        return None
    timer: Literal["retry", "approval"] = "retry" if kind == "retry" else "approval"
    return TimerFired(task=task, timer=timer, step=int(step), attempt=int(number))


def _name(pending: Pending) -> str:
    return f"{pending.step}-{pending.attempt}"


def _check_known(state: SessionState, task: str) -> None:
    if task in state.ended:
        raise Permanent("task_ended", f"task {task} has ended already", field="task")
    running = state.running is not None and state.running.task == task
    if not running and not any(one.task == task for one in state.queue):
        raise Permanent("unknown_task", f"no task {task!r} in {state.ref}", field="task")


def _running(state: SessionState, task: str) -> Running:
    running = state.running
    if running is None or running.task != task or running.verdict is not None:
        raise Permanent("not_running", f"task {task} is not running (it waits)", field="task")
    return running


def _question(running: Running, step: int) -> tuple[int, int]:
    """The attempt, or the number of the limit, that waits for a person at this step."""
    for pending in running.pending:
        if pending.step == step and pending.parked is not None:
            return pending.attempt, 0
    if (hold := _asked(running)) is not None and running.next_step == step:
        return 1, hold.number
    raise Permanent("not_parked", f"step {step} does not wait for anybody", field="step")


def _asked(running: Running) -> Hold | None:
    return running.hold if running.hold is not None and running.hold.parked_at else None


def _is_clients(running: Running, step: int) -> bool:
    return any(one.step == step and one.parked == "client_tool" for one in running.pending)


def _check_approval(running: Running, order: ApproveStep) -> None:
    """What a person changes must fit what waits."""
    held = _asked(running) is not None and running.next_step == order.step
    if held and (order.arguments is not None or order.result is not None):
        raise Permanent("invalid_arguments", "the task waits for limits", field="limits")
    if not held and order.limits is not None:
        raise Permanent("invalid_arguments", "the step waits for an approval", field="limits")
    if not held and order.result is None and _is_clients(running, order.step):
        detail = "the call is one of a client's tool: say what it returned"
        raise Permanent("result_needed", detail, field="result")
    if order.arguments is None:
        return
    try:
        given = orjson.loads(order.arguments)
    except orjson.JSONDecodeError as error:
        raise Permanent("invalid_arguments", f"not JSON: {error}", field="arguments") from error
    if not isinstance(given, dict):
        raise Permanent("invalid_arguments", "no JSON object", field="arguments")
