"""Where the time of a task went: facts -> rows of a waterfall (pure).

A step is ready when the results it needs are in the log: a tool call when the model has asked for
it, a model call when every tool before it has answered, the first step when the task is accepted.
From then to its own result the log's times (the broker's clock) give the whole, and the result
says how much of it was waiting for a slot, model or tool. What remains is Millrace's overhead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

from shared.contracts import facts as f
from shared.contracts.base import SessionRef
from shared.contracts.log import Malformed, StoredFact
from shared.contracts.tasks import TaskSubmitted, said
from shared.trace import trace_id_of
from shared.waiting import Note, Try, notes, tries, waiting

StepStatus = Literal["ok", "failed", "running", "parked"]
TaskStatus = Literal["queued", "running", "parked", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Row:
    """One step. `start` (ready) and `end` (result) are seconds after the submission.

    `queued_ms` is from the router's hand to the model, `busy_ms` the model or the tool itself.
    `overhead_ms` is all that is not `busy_ms`, so it contains the former; it is None for a step
    that is running, failed, answered from a cache, or was tried more than once: there the gap is
    not Millrace's own.
    """

    step: int
    kind: Literal["infer", "tool"]
    label: str
    status: StepStatus
    start: float
    end: float | None = None
    queued_ms: float = 0.0
    busy_ms: float = 0.0
    overhead_ms: float | None = None
    attempt: int = 1
    usage: f.Usage = field(default_factory=f.Usage)
    price: int = 0
    worker: str = ""
    arguments: str = ""
    result: str = ""
    error: str = ""
    tries: tuple[Try, ...] = ()
    """Attempts that failed before this one."""
    waits: str = ""
    """Why a parked step waits."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """A task from its submission to its end. Times in epoch seconds, 0 for what is not yet."""

    task: str
    ref: SessionRef
    agent: str
    status: TaskStatus
    question: str = ""
    submitted: float = 0.0
    accepted: float = 0.0
    done: float = 0.0
    rows: tuple[Row, ...] = ()
    totals: f.Totals = field(default_factory=f.Totals)
    output: str = ""
    error: str = ""
    notes: tuple[Note, ...] = ()
    trace_id: str = ""

    @property
    def queue_ms(self) -> float:
        """How long the task waited for its session."""
        return max(0.0, (self.accepted - self.submitted) * 1000) if self.accepted else 0.0


def timeline(facts: Iterable[StoredFact], task: str) -> Timeline | None:
    """The timeline of a task from the facts of its session; None where no fact names it."""
    own = sorted((fact for fact in facts if fact.task == task), key=lambda fact: fact.seq)
    if not own:
        return None
    own = _without_gap(own)
    submitted = _first(own, TaskSubmitted)
    accepted, done = _first(own, f.Accepted), _first(own, f.Done)
    origin = submitted.time if submitted else own[0].time
    start = accepted.time if accepted else origin
    end = done.fact if done and isinstance(done.fact, f.Done) else None
    rows = _rows(own, origin, start, ended=end is not None or accepted is None)
    parked = {one.fact.step: one for one in waiting(own) if isinstance(one.fact, f.Parked)}
    rows = _with_waits(_with_tries(rows, own), parked, origin)
    return Timeline(
        task=task,
        ref=own[0].ref,
        agent=_agent(submitted, accepted),
        status=_status(end, accepted, parked),
        question=_question(submitted),
        submitted=origin,
        accepted=accepted.time if accepted else 0.0,
        done=done.time if done else 0.0,
        rows=rows,
        totals=end.totals if end else _sums(rows),
        output=end.output if end else "",
        error=f"{end.error.code}: {end.error.detail}".rstrip(": ") if end and end.error else "",
        notes=notes(own),
        trace_id=own[0].trace_id or trace_id_of(own[0].ref, task),
    )


def overheads(line: Timeline) -> list[float]:
    """Milliseconds that Millrace itself took, per step where that can be told."""
    return [row.overhead_ms for row in line.rows if row.overhead_ms is not None]


def p50(values: Sequence[float]) -> float | None:
    """The median; None without values."""
    return median(values) if values else None


def first_results(facts: Iterable[StoredFact]) -> dict[int, StoredFact]:
    """The result of each step of a task: the first one wins. `facts` are in order.

    A failure that is to be tried again is none.
    """
    found: dict[int, StoredFact] = {}
    for stored in facts:
        fact = stored.fact
        if isinstance(fact, f.Inferred | f.ToolDone) or (
            isinstance(fact, f.ToolFailed) and not fact.retry
        ):
            found.setdefault(fact.step, stored)
    return found


def _status(end: f.Done | None, accepted: StoredFact | None, parked: object) -> TaskStatus:
    if end is not None:
        return end.status
    if accepted is None:
        return "queued"
    return "parked" if parked else "running"


def _with_tries(rows: Sequence[Row], facts: Sequence[StoredFact]) -> list[Row]:
    """Rows with the attempts before theirs; a row that failed is the last of them itself."""
    found = tries(facts)
    return [
        replace(row, tries=found.get(row.step, ())[: -1 if _only_failed(row) else None])
        for row in rows
    ]


def _only_failed(row: Row) -> bool:
    return row.kind == "infer" and row.status == "failed"


def _with_waits(
    rows: Sequence[Row], parked: Mapping[int, StoredFact], origin: float
) -> tuple[Row, ...]:
    """Rows with what they wait for, and a row for a step that has none."""
    found = {row.step: row for row in rows}
    for step, stored in parked.items():
        fact = stored.fact
        assert isinstance(fact, f.Parked)  # noqa: S101  # `waiting` holds no other
        bare = Row(step, "infer", "", "parked", start=stored.time - origin)
        found[step] = replace(found.get(step, bare), status="parked", waits=fact.reason)
    return tuple(found[step] for step in sorted(found))


def _without_gap(own: list[StoredFact]) -> list[StoredFact]:
    """In a fork, what it took over as if it had just happened: nobody waited between the two."""
    for n in range(1, len(own)):
        if isinstance(own[n].fact, f.Forked):
            gap = own[n].time - own[n - 1].time
            own = [*(replace(fact, time=fact.time + gap) for fact in own[:n]), *own[n:]]
    return own


def _first(facts: Sequence[StoredFact], kind: type) -> StoredFact | None:
    wanted = "task" if kind is TaskSubmitted else None
    for stored in facts:
        if isinstance(stored.fact, kind) or (
            wanted == stored.kind and isinstance(stored.fact, Malformed)
        ):
            return stored
    return None


def _agent(submitted: StoredFact | None, accepted: StoredFact | None) -> str:
    if submitted is not None:
        return submitted.rest
    if accepted is not None and isinstance(accepted.fact, f.Accepted):
        return accepted.fact.agent.name
    return ""


def _question(submitted: StoredFact | None) -> str:
    if submitted is None or not isinstance(submitted.fact, TaskSubmitted):
        return ""
    return said(submitted.fact)


def _rows(
    facts: Sequence[StoredFact], origin: float, start: float, *, ended: bool
) -> tuple[Row, ...]:
    failures = _failures(facts)
    results = first_results(facts)
    asked: dict[int, f.ToolCall] = {}
    rows: list[Row] = []
    ready, latest, answered = start, start, False
    for step in sorted(results.keys() | failures.keys()):
        stored, failed = results.get(step), failures.get(step)
        if stored is None:
            assert failed is not None  # noqa: S101  # one of the two holds the step
            rows.append(_failed_row(failed, latest, origin))
            continue
        if isinstance(stored.fact, f.Inferred):
            rows.append(_infer_row(stored, stored.fact, latest, origin, retried=bool(failed)))
            ready = latest = stored.time
            asked = dict(enumerate(stored.fact.tool_calls, step + 1))
            answered = not asked
        elif isinstance(stored.fact, f.ToolDone | f.ToolFailed):
            rows.append(_tool_row(stored, stored.fact, asked, ready, origin))
            asked.pop(step, None)
            latest = max(latest, stored.time)
    if not (ended or answered):
        rows += _running(rows, asked, latest if not asked else ready, origin)
    return tuple(rows)


def _failures(facts: Sequence[StoredFact]) -> dict[int, StoredFact]:
    return {stored.fact.step: stored for stored in facts if isinstance(stored.fact, f.InferFailed)}


def _infer_row(
    stored: StoredFact, fact: f.Inferred, ready: float, origin: float, *, retried: bool
) -> Row:
    gap_ms = (stored.time - ready) * 1000
    queued, busy = fact.timings.queued_ms, fact.timings.total_ms
    alone = not (retried or fact.cached or fact.attempt > 1)
    return Row(
        step=fact.step,
        kind="infer",
        label=fact.model,
        status="ok",
        start=ready - origin,
        end=stored.time - origin,
        queued_ms=queued,
        busy_ms=busy,
        overhead_ms=max(0.0, gap_ms - busy) if alone else None,
        attempt=fact.attempt,
        usage=fact.usage,
        price=fact.price,
        worker=fact.worker,
        result=fact.content,
    )


def _tool_row(
    stored: StoredFact,
    fact: f.ToolDone | f.ToolFailed,
    asked: Mapping[int, f.ToolCall],
    ready: float,
    origin: float,
) -> Row:
    failed = isinstance(fact, f.ToolFailed)
    gap_ms = (stored.time - ready) * 1000
    call = asked.get(fact.step)
    alone = not failed and fact.attempt == 1
    return Row(
        step=fact.step,
        kind="tool",
        label=fact.name,
        status="failed" if failed else "ok",
        start=ready - origin,
        end=stored.time - origin,
        busy_ms=fact.duration_ms,
        overhead_ms=max(0.0, gap_ms - fact.duration_ms) if alone else None,
        attempt=fact.attempt,
        arguments=call.arguments if call else "",
        result=fact.result if isinstance(fact, f.ToolDone) else "",
        error=fact.error.code if isinstance(fact, f.ToolFailed) else "",
    )


def _failed_row(stored: StoredFact, ready: float, origin: float) -> Row:
    assert isinstance(stored.fact, f.InferFailed)  # noqa: S101  # `_failures` holds no other
    return Row(
        step=stored.fact.step,
        kind="infer",
        label="",
        status="failed",
        start=ready - origin,
        end=stored.time - origin,
        attempt=stored.fact.attempt,
        error=stored.fact.error.code,
    )


def _running(
    rows: Sequence[Row], asked: Mapping[int, f.ToolCall], ready: float, origin: float
) -> list[Row]:
    """What the log says is under way: the calls without an answer, else the next model call."""
    following = rows[-1].step + 1 if rows else 0
    if rows and rows[-1].status == "failed" and rows[-1].kind == "infer":
        return []  # the failed row stands for the retry
    if not asked:
        return [Row(following, "infer", "", "running", start=ready - origin)]
    return [
        Row(
            step,
            "tool",
            call.name,
            "running",
            start=ready - origin,
            arguments=call.arguments,
        )
        for step, call in asked.items()
    ]


def _sums(rows: Sequence[Row]) -> f.Totals:
    held = [row for row in rows if row.end is not None and row.label]
    usage = f.Usage()
    for row in held:
        usage += row.usage
    infer = sum(row.kind == "infer" for row in held)
    return f.Totals(
        steps=len(held),
        infer_steps=infer,
        tool_steps=len(held) - infer,
        usage=usage,
        price=sum(row.price for row in held),
    )
