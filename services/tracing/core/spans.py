"""The facts of a task that has ended -> its spans: the root first, then its steps in order. Pure.

    invoke_agent                      from the submission to the end
      route, chat                     each model call: to the worker that has it, then the model
      execute_tool                    each tool call; what it asked of others is below it
      wait                            for a person, a client, a higher limit

Times are the log's, the broker's clock; durations are what whoever did it has measured. Attempts
that failed are siblings of the one that did not. An attempt that left nothing in the log (its
process was killed, or gave it back) is told as well: the next one has a higher number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from services.tracing.core.attributes import (
    About,
    Attributes,
    of_answer,
    of_call,
    of_leg,
    of_task,
    of_tool,
)
from shared.contracts import facts as f
from shared.contracts.base import SessionRef
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.trace import (
    TRACEPARENT,
    Happening,
    Kind,
    Span,
    TraceContext,
    context_of,
    span_id_of,
    trace_id_of,
)

LOST = "attempt_lost"
"""The error of attempts whose processes were gone before they could say anything."""


@dataclass(slots=True)
class _Walk:
    """What is known at a place in the log of a task."""

    about: About
    root: TraceContext
    asked: dict[int, f.ToolCall] = field(default_factory=dict)
    ready: dict[int, float] = field(default_factory=dict)
    """When a step could begin; after a failure, when it could again."""
    latest: float = 0.0
    failed: dict[int, int] = field(default_factory=dict)
    """The last attempt of a step that is known to have failed."""
    ended: set[int] = field(default_factory=set)
    parked: dict[int, tuple[str, StoredFact, str]] = field(default_factory=dict)
    found: list[Span] = field(default_factory=list)

    def since(self, step: int) -> float:
        """When a step could begin."""
        return self.ready.get(step, self.latest)

    def add(
        self, name: str, times: tuple[float, float], service: str, span: str, what: _What
    ) -> None:
        """A span below the root; no span of ours begins after it has ended."""
        own = replace(self.root, span_id=span_id_of(self.about.ref, self.about.task, span))
        self.found.append(
            Span(
                name=name,
                context=own,
                start=min(times),
                end=times[1],
                service=service,
                parent=what.parent or self.root,
                kind=what.kind,
                attributes=what.attributes,
                error=what.error,
            )
        )


@dataclass(frozen=True, slots=True)
class _What:
    attributes: Attributes
    error: str = ""
    kind: Kind = "internal"
    parent: TraceContext | None = None


def spans_of(facts: Sequence[StoredFact], *, content: bool = False) -> list[Span]:
    """The spans of the task whose last fact is `done`; none without one.

    `facts` are its own, in order, up to there; of a fork, with what it took over from its parent,
    whose spans are told there.
    """
    if not facts or not isinstance(facts[-1].fact, f.Done):
        return []
    last, done = facts[-1], facts[-1].fact
    ref, task = last.ref, last.task
    forked = next((one for one in facts if isinstance(one.fact, f.Forked)), None)
    submitted = facts[0].fact if isinstance(facts[0].fact, TaskSubmitted) else None
    own, parent = root_of(facts)
    about = About(ref, task, _agent(facts), _accepted(facts), content)
    walk = _Walk(about, own, latest=facts[0].time)
    for stored in facts:
        _met(walk, stored)
        if stored is forked:
            walk.found, walk.latest = [], stored.time
            walk.ready = dict.fromkeys(walk.ready, stored.time)
    first = forked or facts[0]
    root = Span(
        name=f"invoke_agent {about.agent}".rstrip(),
        context=own,
        start=first.time,
        end=last.time,
        service="sessions",
        parent=parent,
        attributes=of_task(about, done, submitted),
        error=(done.error.code if done.error else done.status) if done.status == "failed" else "",
        events=_events(facts[facts.index(first) :]),
    )
    return [root, *walk.found]


def root_of(facts: Sequence[StoredFact]) -> tuple[TraceContext, TraceContext | None]:
    """Where the root span of a task is, and the span that it is below, if any.

    That is what the task's own message names: a client's span, the request that it came with, the
    step of another agent; for a fork, the task that it goes on from. One that names the root itself
    comes from a client of ours that has no span.
    """
    ref, task = facts[-1].ref, facts[-1].task
    own_id = span_id_of(ref, task)
    given = next(filter(None, (context_of(one.headers.get(TRACEPARENT)) for one in facts)), None)
    trace = given.trace_id if given else trace_id_of(ref, task)
    own = TraceContext(trace, own_id)
    for stored in facts:
        if isinstance(stored.fact, f.Forked):
            origin = SessionRef(ref.tenant, stored.fact.parent)
            return own, TraceContext(trace, span_id_of(origin, task))
    named = context_of(facts[0].headers.get(TRACEPARENT)) if facts[0].kind == "task" else None
    return own, None if named is None or named.span_id == own_id else named


def _agent(facts: Sequence[StoredFact]) -> str:
    accepted = _accepted(facts)
    if accepted is not None:
        return accepted.agent.name
    return facts[0].rest if facts[0].kind == "task" else ""


def _accepted(facts: Sequence[StoredFact]) -> f.Accepted | None:
    return next((one.fact for one in facts if isinstance(one.fact, f.Accepted)), None)


def _events(facts: Sequence[StoredFact]) -> tuple[Happening, ...]:
    """What happened to the task as a whole. Never what was said."""
    names = {f.Accepted: "accepted", f.Steered: "steered", f.Cancelled: "cancelled"}
    return tuple(
        Happening(names[type(one.fact)], one.time) for one in facts if type(one.fact) in names
    )


def _met(walk: _Walk, stored: StoredFact) -> None:
    """One more fact."""
    match stored.fact:
        case f.Accepted():
            walk.latest = stored.time
        case f.Inferred() | f.InferFailed() | f.ToolDone() | f.ToolFailed() as fact:
            if fact.step not in walk.ended:
                _came_back(walk, stored, fact)
        case f.TimerFired(timer="retry", step=int(step)):
            walk.ready[step] = stored.time
        case f.Parked() as fact:
            walk.parked.setdefault(fact.step, (fact.reason, stored, f"{fact.attempt}.{fact.hold}"))
        case f.Done():
            for step in list(walk.parked):
                _heard(walk, stored, step)
        case _:
            _answered_by_others(walk, stored)


def _came_back(
    walk: _Walk, stored: StoredFact, fact: f.Inferred | f.InferFailed | f.ToolDone | f.ToolFailed
) -> None:
    match fact:
        case f.Inferred():
            _answered(walk, stored, fact)
        case f.InferFailed():
            _not_answered(walk, stored, fact)
        case _:
            _returned(walk, stored, fact)


def _answered_by_others(walk: _Walk, stored: StoredFact) -> None:
    match stored.fact:
        case f.Approved(step=step) | f.Rejected(step=step):
            _heard(walk, stored, step)
        case f.TimerFired(timer="approval", step=int(step)):
            _heard(walk, stored, step)


def _answered(walk: _Walk, stored: StoredFact, fact: f.Inferred) -> None:
    """A model call: how it came to its worker, what was lost on the way, and the model."""
    begin, end = walk.since(fact.step), stored.time
    start = max(begin, end - fact.timings.total_ms / 1000)
    handed = max(begin, start - fact.timings.queued_ms / 1000)
    step, number = fact.step, _number(walk, fact.step, fact.attempt)
    if not fact.cached:
        words: Attributes = {"millrace.attempt": fact.attempt, "gen_ai.request.model": fact.model}
        if fact.placed:
            words["millrace.placed"] = fact.placed
        what = _What(walk.about.base(step) | words)
        walk.add("route", (begin, handed), "router", f"{step}/route", what)
    if number < fact.attempt:
        lost = _What(of_call(walk.about, step, number, fact.model, ""), LOST, "client")
        walk.add(f"chat {fact.model}", (handed, start), "inference", f"{step}/{number}", lost)
    what = _What(of_answer(walk.about, fact), kind="client")
    walk.add(f"chat {fact.model}", (start, end), "inference", str(step), what)
    walk.ended.add(step)
    walk.latest = end
    walk.asked = dict(enumerate(fact.tool_calls, step + 1))
    walk.ready |= dict.fromkeys(walk.asked, end)


def _number(walk: _Walk, step: int, attempt: int) -> int:
    """The number that comes after the last failure; what is above it was given to lost ones."""
    return min(attempt, walk.failed.get(step, 0) + 1)


def _not_answered(walk: _Walk, stored: StoredFact, fact: f.InferFailed) -> None:
    attributes = of_call(walk.about, fact.step, fact.attempt, fact.model, fact.worker)
    name, service = f"chat {fact.model}".rstrip(), "inference" if fact.worker else "router"
    what = _What(attributes, fact.error.code, "client")
    times = (walk.since(fact.step), stored.time)
    walk.add(name, times, service, f"{fact.step}/{fact.attempt}", what)
    walk.ready[fact.step], walk.failed[fact.step] = stored.time, fact.attempt


def _returned(walk: _Walk, stored: StoredFact, fact: f.ToolDone | f.ToolFailed) -> None:
    """A tool call, or an attempt at one that is to be tried again."""
    step, end, name = fact.step, stored.time, f"execute_tool {fact.name}"
    begin = walk.since(step)
    start = max(begin, end - fact.duration_ms / 1000) if fact.duration_ms else begin
    call, number = walk.asked.get(step), _number(walk, step, fact.attempt)
    again = isinstance(fact, f.ToolFailed) and fact.retry
    if number < fact.attempt:
        lost = _What(of_tool(walk.about, fact, None, number), LOST)
        walk.add(name, (begin, start), "tools", f"{step}/{number}", lost)
    error = fact.error.code if isinstance(fact, f.ToolFailed) else ""
    what = _What(of_tool(walk.about, fact, call, fact.attempt), error)
    span = f"{step}/{fact.attempt}" if again else str(step)
    walk.add(name, (start, end), "tools", span, what)
    below = walk.found[-1].context
    for place, leg in enumerate(getattr(fact, "legs", ())):
        begun = start + leg.start_ms / 1000
        what = _What(of_leg(walk.about, step, leg), kind="client", parent=below)
        times = (begun, begun + leg.duration_ms / 1000)
        walk.add(leg.name, times, "tools", f"{step}/leg-{place}", what)
    if again:
        walk.ready[step], walk.failed[step] = end, fact.attempt
        return
    _heard(walk, stored, step)
    walk.ended.add(step)
    walk.latest = max(walk.latest, end)


def _heard(walk: _Walk, stored: StoredFact, step: int) -> None:
    """Nobody has to be waited for any longer."""
    if step not in walk.parked:
        return
    reason, since, which = walk.parked.pop(step)
    words: Attributes = {"millrace.waits": reason}
    what = _What(walk.about.base(step) | words)
    walk.add(f"wait {reason}", (since.time, stored.time), "sessions", f"{step}/wait-{which}", what)
    walk.ready[step] = stored.time
