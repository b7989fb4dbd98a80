"""Recorded logs for the ledger's and the timeline's tests, and the sums that they must give."""

from __future__ import annotations

from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, Limits, Sampling
from shared.contracts.base import Message, SessionRef
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Failure
from shared.subjects import BY_TYPE

START = 1_790_000_000.0
REF = SessionRef("default", "s1")
AWAY = Failure(code="engine_unavailable", family="transient")


class Recorder:
    """Builds a log fact by fact; sequences count up, times are seconds after `START`."""

    def __init__(self) -> None:
        self.facts: list[StoredFact] = []

    def add(
        self, fact: Message, at: float, *, ref: SessionRef = REF, task: str = "", agent: str = ""
    ) -> StoredFact:
        kind = BY_TYPE[type(fact)]
        name = task or getattr(fact, "task", "")
        rest = agent or ".".join(str(getattr(fact, field)) for field in kind.unique)
        stored = StoredFact(len(self.facts) + 1, START + at, ref, kind.token, rest, name, fact)  # type: ignore[arg-type]  # tests record facts only
        self.facts.append(stored)
        return stored

    def submit(self, task: str, at: float, ref: SessionRef = REF, text: str = "17 * 23?") -> None:
        self.add(TaskSubmitted(input=text), at, ref=ref, task=task, agent="assistant")

    def accept(self, task: str, at: float, ref: SessionRef = REF) -> None:
        fact = f.Accepted(
            task=task,
            agent=AgentSpec(name="assistant", tools=("calculator", "clock")),
            revision=3,
            limits=Limits(),
            sampling=Sampling(),
            deadline=START + 600,
            source=1,
        )
        self.add(fact, at, ref=ref)


def inferred(
    task: str,
    step: int,
    *,
    total_ms: float = 40.0,
    queued_ms: float = 0.0,
    calls: tuple[f.ToolCall, ...] = (),
    usage: f.Usage | None = None,
    content: str = "",
    attempt: int = 1,
) -> f.Inferred:
    return f.Inferred(
        task=task,
        step=step,
        content=content,
        tool_calls=calls,
        finish="tool_calls" if calls else "stop",
        usage=usage or f.Usage(input=100, cached=64, output=10),
        price=1_500,
        model="nano",
        worker="w1",
        attempt=attempt,
        timings=f.Timings(queued_ms=queued_ms, first_token_ms=5.0, total_ms=total_ms),
    )


CALL = f.ToolCall(id="c1", name="calculator", arguments='{"expression": "17 * 23"}')


def arithmetic(log: Recorder, task: str = "t1", at: float = 0.0, ref: SessionRef = REF) -> None:
    """A task of three steps: model, tool, model."""
    log.submit(task, at, ref)
    log.accept(task, at + 0.002, ref)
    log.add(inferred(task, 0, calls=(CALL,), queued_ms=1.0), at + 0.046, ref=ref)
    tool = f.ToolDone(
        task=task, step=1, call="c1", name="calculator", result="391", duration_ms=3.0
    )
    log.add(tool, at + 0.051, ref=ref)
    log.add(inferred(task, 2, content="It is 391.", total_ms=30.0), at + 0.083, ref=ref)
    totals = f.Totals(
        steps=3,
        infer_steps=2,
        tool_steps=1,
        usage=f.Usage(input=200, cached=128, output=20),
        price=3_000,
    )
    done = f.Done(task=task, status="completed", output="It is 391.", totals=totals)
    log.add(done, at + 0.084, ref=ref)


def eventful() -> list[StoredFact]:
    """Two tenants, a retried step, a second result for a step, a failure, a running task, a
    malformed submission's end and two stateless completions, over two days."""
    log = Recorder()
    arithmetic(log)
    log.submit("t2", 1.0)
    arithmetic(log, "t1", 2.0, SessionRef("acme", "s1"))
    log.accept("t2", 3.0)
    log.add(f.InferFailed(task="t2", step=0, error=AWAY), 3.1)
    log.add(inferred("t2", 0, calls=(CALL,), attempt=2), 3.5)
    log.add(inferred("t2", 0, calls=(CALL,), attempt=1, usage=f.Usage(input=9, output=9)), 3.6)
    failed = f.ToolFailed(
        task="t2", step=1, call="c1", name="calculator", error=Failure(code="tool_error")
    )
    log.add(failed, 3.7)
    log.add(f.ToolDone(task="t2", step=1, call="c1", name="calculator", result="391"), 3.8)
    log.submit("t3", 86_400.0, text="tell me")
    log.accept("t3", 86_400.1)
    log.add(f.InferFailed(task="t3", step=0, error=AWAY, attempt=4), 86_401.0)
    log.add(f.Done(task="t3", status="failed", error=AWAY), 86_401.0)
    log.add(f.Cancelled(task="t4", by="cli"), 86_402.0)
    for number in (1, 2):
        completed = f.Completed(
            id=f"d{number}",
            model="nano",
            worker="w1",
            usage=f.Usage(input=7, output=number),
            price=number,
        )
        log.add(completed, 86_403.0, ref=SessionRef("default", "_direct"))
    return log.facts


def waits() -> list[StoredFact]:
    """Tasks that wait for a person: for an approval, no more, once more, and in vain."""
    log = Recorder()
    for task in ("p1", "p2", "p3", "p4"):
        log.submit(task, 0.0)
        log.accept(task, 0.1)
        log.add(inferred(task, 0, calls=(CALL,)), 0.2)
        log.add(f.Parked(task=task, step=1, reason="approval", detail="asks first"), 0.3)
    here = {"step": 1, "call": "c1", "name": "calculator"}
    log.add(f.Approved(task="p2", step=1, by="kim"), 0.5)
    log.add(f.Rejected(task="p3", step=1, by="kim"), 0.5)
    log.add(f.Parked(task="p3", step=1, reason="unknown_outcome", attempt=2), 0.6)
    log.add(f.ToolDone(task="p4", result="391", **here), 0.7)
    busy = Failure(code="busy", family="transient")
    log.add(f.ToolFailed(task="p2", error=busy, retry=True, **here), 0.8)
    return log.facts


def billed(facts: list[StoredFact], tenant: str) -> tuple[f.Usage, int]:
    """The sum over the log, written independently of the ledger: the first result of each step
    and every stateless completion; of a deleted session what its deletion says."""
    usage, price, seen = f.Usage(), 0, set()
    gone = {one.ref: one.fact for one in facts if isinstance(one.fact, f.Deleted)}
    for deleted in (fact for ref, fact in gone.items() if ref.tenant == tenant):
        for line in deleted.usage:
            usage, price = usage + line.usage, price + line.price
    facts = [one for one in facts if one.ref not in gone or one.seq > gone[one.ref].upto]
    for stored in sorted(facts, key=lambda one: one.seq):
        fact = stored.fact
        if stored.ref.tenant != tenant or not isinstance(fact, f.Inferred | f.Completed):
            continue
        step = fact.step if isinstance(fact, f.Inferred) else fact.id
        if (stored.ref, stored.task, step) in seen:
            continue
        seen.add((stored.ref, stored.task, step))
        usage, price = usage + fact.usage, price + fact.price
    return usage, price
