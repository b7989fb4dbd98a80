"""How the facts of a running task carry it from step to step.

            +--> infer step --answer without calls--> completed
            |      |   ^  |
            |      |   |  +--failed for the moment--> waits --timer--+   (next attempt, then the
            |      |   +---------------------------------------------+    next target of the route)
            |      v calls
            |    tool steps, in parallel; each may wait likewise, or be parked for a person
            |      |
            +------+ all have a result

A step has one result; the first one wins. Times are those of the log, so a fold gives the same
state wherever and whenever it is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from msgspec.structs import replace

from services.sessions.core.delegate import added, asked, used_tokens
from services.sessions.core.state import Hold, Pending, Running
from services.sessions.core.terms import heard
from shared.contracts.agents import LimitsPatch, RetryPolicy
from shared.contracts.facts import (
    Approved,
    InferFailed,
    Inferred,
    Parked,
    Rejected,
    Steered,
    TimerFired,
    ToolCall,
    ToolDone,
    ToolFailed,
    ToolStarted,
)
from shared.errors import Failure

At = tuple[int, float]
"""A place in the log: sequence and time."""
StepFact = (
    Inferred | InferFailed | ToolDone | ToolFailed | ToolStarted | Parked | Approved | Rejected
    | Steered | TimerFired
)  # fmt: skip


def advance(running: Running, fact: StepFact, seq: int, now: float) -> Running:
    """The task after a fact of its own. It has no verdict yet."""
    match fact:
        case TimerFired(step=None):
            return _timed(running, fact, now)
        case Steered():
            return _steered(running, fact)
        case ToolStarted():
            return running
    if getattr(fact, "hold", 0):
        return _held(running, fact, seq, now)
    pending = next((one for one in running.pending if one.step == fact.step), None)
    if pending is None:
        return running  # the first result of a step has won
    return _of_step(running, pending, fact, (seq, now))


def _of_step(running: Running, pending: Pending, fact: StepFact, at: At) -> Running:
    seq, now = at
    match fact:
        case Inferred() if pending.call is None:
            return _inferred(running, fact, at)
        case InferFailed() if pending.call is None and fact.attempt >= pending.attempt:
            return _infer_failed(running, pending, fact, now)
        case ToolDone() | ToolFailed() if pending.call is not None:
            return _tool_ended(running, pending, fact, at)
        case Parked() | Approved() | Rejected() if pending.call is not None:
            return _by_person(running, pending, fact, (seq, now))
        case TimerFired(attempt=pending.attempt):
            return _step_timed(running, pending, fact, (seq, now))
    return running


# -- failures for the moment ----------------------------------------------------------------------


def backoff(policy: RetryPolicy, step: str, tries: int) -> float:
    """Seconds to wait after the n-th failure. The jitter follows from the step: no clock, no dice.

    Equal jitter: a half of the exponential time is certain, the other half is spread.
    """
    whole = min(policy.max_s, policy.base_s * 2.0 ** min(tries - 1, 30))
    digest = hashlib.blake2b(f"{step}/{tries}".encode(), digest_size=8).digest()
    return float(whole * (0.5 + 0.5 * int.from_bytes(digest) / 2**64))


def again(
    running: Running, pending: Pending, fact: InferFailed | ToolFailed, now: float
) -> Pending:
    """The next attempt of a step, and when it is due."""
    tries = pending.tries + 1
    wait = backoff(running.accepted.agent.retry, f"{running.task}.{pending.step}", tries)
    due = now + max(wait, fact.error.retry_after or 0.0)
    return replace(
        pending, attempt=fact.attempt + 1, tries=tries, due=due, asked=due, error=fact.error
    )


def _infer_failed(running: Running, pending: Pending, fact: InferFailed, now: float) -> Running:
    error = fact.error
    if error.family == "permanent":
        if error.code == "route_exhausted" and pending.error is not None:
            error = pending.error  # what is worth telling is why the last target failed
        return replace(running, verdict="failed", error=error, pending=())
    following = again(running, pending, fact, now)
    # what is broken was tried again by the broker already
    if error.family == "broken" or following.tries >= running.accepted.agent.retry.tries:
        following = replace(following, tries=0, due=None, asked=now, skip=pending.skip + 1)
    return replace(running, pending=(following,))


# -- results --------------------------------------------------------------------------------------


def _inferred(running: Running, fact: Inferred, at: At) -> Running:
    before = running.totals
    totals = replace(
        before,
        steps=before.steps + 1,
        infer_steps=before.infer_steps + 1,
        usage=before.usage + fact.usage,
        price=before.price + fact.price,
    )
    running = replace(
        running,
        totals=totals,
        pending=(),
        output=fact.content,
        fresh=False,
        served=fact.worker or running.served,
    )
    if not fact.tool_calls:
        if running.unheard:
            return _next_inference(replace(running, unheard=False), at)
        return replace(running, verdict="completed")
    calls = repr([(call.name, call.arguments) for call in fact.tool_calls])
    repeats = running.repeats + 1 if calls == running.last_calls else 1
    running = replace(running, last_calls=calls, repeats=repeats)
    if repeats > running.limits.max_repeats:
        return _fail(running, "no_progress", f"the same calls were asked for {repeats} times")
    return _call(running, fact.tool_calls, at)


def _call(running: Running, calls: tuple[ToolCall, ...], at: At) -> Running:
    """Ask for tools, where the limit allows it."""
    limit = running.limits.max_steps
    if running.next_step + len(calls) > limit:
        return _limited(running, "step_limit", f"the task needs more than {limit} steps", calls)
    pending = tuple(
        Pending(step=running.next_step + n, seq=at[0], asked=at[1], call=call)
        for n, call in enumerate(calls)
    )
    return replace(
        running,
        pending=pending,
        next_step=running.next_step + len(pending),
        delegated=tuple(one.step for one in pending if one.call and asked(running, one.call)),
    )


def _tool_ended(running: Running, pending: Pending, fact: ToolDone | ToolFailed, at: At) -> Running:
    if isinstance(fact, ToolFailed) and fact.retry:
        if fact.attempt < pending.attempt:
            return running
        return _waiting(running, again(running, pending, fact, at[1]), at[1])
    if fact.spent is not None:
        running = replace(running, spent=added(running.spent, fact.spent))
    return _tool_result(running, pending, *at)


def _tool_result(running: Running, pending: Pending, seq: int, now: float) -> Running:
    totals = replace(
        running.totals, steps=running.totals.steps + 1, tool_steps=running.totals.tool_steps + 1
    )
    left = tuple(one for one in running.pending if one.step != pending.step)
    others = tuple(step for step in running.delegated if step != pending.step)
    running = replace(running, totals=totals, pending=left, delegated=others)
    running = _waited(running, now)
    return running if left else _next_inference(replace(running, unheard=False), (seq, now))


def _next_inference(running: Running, at: At) -> Running:
    limits = running.limits
    if running.next_step >= limits.max_steps:
        return _limited(running, "step_limit", f"the task needs more than {limits.max_steps} steps")
    if used_tokens(running) >= limits.max_tokens:
        return _limited(running, "token_limit", f"the task used its {limits.max_tokens} tokens")
    price = running.totals.price + running.spent.price
    if limits.max_cost is not None and price >= limits.max_cost:
        return _limited(running, "cost_limit", f"the task used its {limits.max_cost} (1e-8 units)")
    following = Pending(step=running.next_step, seq=at[0], asked=at[1])
    return replace(running, pending=(following,), next_step=running.next_step + 1)


# -- limits ---------------------------------------------------------------------------------------


def _fail(running: Running, code: str, detail: str) -> Running:
    error = Failure(code=code, detail=detail)
    return replace(running, verdict="failed", error=error, pending=(), hold=None)


def _limited(running: Running, code: str, detail: str, calls: tuple[ToolCall, ...] = ()) -> Running:
    """A limit is reached: the end, or a question to whoever can raise it."""
    if running.accepted.agent.on_limit == "fail":
        return _fail(running, code, detail)
    number = running.holds + 1
    hold = Hold(error=Failure(code=code, detail=detail), number=number, calls=calls)
    return replace(running, hold=hold, holds=number, pending=())


def _held(running: Running, fact: StepFact, seq: int, now: float) -> Running:
    """A fact about a task that waits for higher limits."""
    hold = running.hold
    if hold is None or getattr(fact, "hold", 0) != hold.number:
        return running
    match fact:
        case Parked() if hold.parked_at is None:
            return _waiting(replace(running, hold=replace(hold, parked_at=now)), None, now)
        case Approved() if hold.parked_at is not None:
            limits = raised(running, fact.limits)
            running = _waited(replace(running, hold=None, limits=limits), now)
            at = (seq, now)
            return _call(running, hold.calls, at) if hold.calls else _next_inference(running, at)
        case Rejected() | TimerFired() if hold.parked_at is not None:
            return replace(running, hold=None, verdict="failed", error=hold.error)
    return running


def raised(running: Running, patch: LimitsPatch | None) -> object:
    """The limits with those that a person has set anew."""
    given = {} if patch is None else {n: getattr(patch, n) for n in patch.__struct_fields__}
    return replace(running.limits, **{n: v for n, v in given.items() if v is not None})


# -- people ---------------------------------------------------------------------------------------


def _by_person(
    running: Running, pending: Pending, fact: Parked | Approved | Rejected, at: At
) -> Running:
    seq, now = at
    if fact.attempt != pending.attempt:
        return running
    if isinstance(fact, Parked):
        if pending.parked is not None or fact.reason == "budget":
            return running
        return _waiting(running, replace(pending, parked=fact.reason, parked_at=now), now)
    if pending.parked is None:
        return running  # a question has one answer
    if isinstance(fact, Rejected):
        return _tool_result(running, pending, seq, now)
    if fact.result is not None:
        return _tool_result(heard(running, fact), pending, seq, now)
    if pending.parked == "client_tool":
        return running  # there is nothing of ours to be run
    return _freed(running, pending, fact, now)


def _freed(running: Running, pending: Pending, fact: Approved, now: float) -> Running:
    """The step may run, perhaps with other arguments."""
    call = pending.call
    if call is not None and fact.arguments is not None:
        call = replace(call, arguments=fact.arguments)
    # what may have happened once is a new attempt: the old one can never be started again
    attempt = pending.attempt + (pending.parked == "unknown_outcome")
    freed = replace(
        pending, call=call, parked=None, approved=True, attempt=attempt, due=None, asked=now
    )
    return _waited(replace(running, pending=_with(running, freed)), now)


def _steered(running: Running, fact: Steered) -> Running:
    if fact.id in running.steers:
        return running
    speaking = any(one.call is None for one in running.pending)
    return replace(running, steers=(*running.steers, fact.id), unheard=running.unheard or speaking)


# -- time -----------------------------------------------------------------------------------------


def _timed(running: Running, fact: TimerFired, now: float) -> Running:
    if fact.timer != "deadline":
        return replace(running, watched=now)
    if running.waiting_since is not None:
        return running
    return _fail(
        running, "deadline_exceeded", f"the task ran longer than {running.limits.deadline_s:g} s"
    )


def _step_timed(running: Running, pending: Pending, fact: TimerFired, at: At) -> Running:
    if fact.timer == "retry" and pending.due is not None:
        return replace(running, pending=_with(running, replace(pending, due=None, asked=at[1])))
    if fact.timer == "approval" and pending.parked is not None:
        return _tool_result(running, pending, *at)
    return running


def _with(running: Running, changed: Pending) -> tuple[Pending, ...]:
    return tuple(changed if one.step == changed.step else one for one in running.pending)


def _waiting(running: Running, changed: Pending | None, now: float) -> Running:
    """A step changed; the clock of the task stands still while it waits for a person."""
    pending = running.pending if changed is None else _with(running, changed)
    waits = running.hold is not None or any(one.parked is not None for one in pending)
    since = running.waiting_since
    since = now if waits and since is None else since
    return replace(running, pending=pending, waiting_since=since)


def _waited(running: Running, now: float) -> Running:
    """Nothing waits for a person any more: what passed meanwhile does not count."""
    since = running.waiting_since
    if since is None or running.hold is not None or _parked(running.pending):
        return running
    return replace(running, waiting_since=None, deadline=running.deadline + now - since)


def _parked(pending: Iterable[Pending]) -> bool:
    return any(one.parked is not None for one in pending)
