"""What befell a task on its way: steps that wait for a person, what people said, failed tries.

Pure; the facts are those of one task, in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from shared.contracts import facts as f
from shared.contracts.log import StoredFact
from shared.errors import Permanent


def waiting(facts: Iterable[StoredFact]) -> list[StoredFact]:
    """The `parked` facts of one task that are open, by step; none once the task has ended.

    A verdict, a result or the end of the wait answers a step.
    """
    parked: dict[int, StoredFact] = {}
    for stored in facts:
        match stored.fact:
            case f.Parked(step=step):
                parked.setdefault(step, stored)
            case f.Approved(step=step) | f.Rejected(step=step) | f.Inferred(step=step):
                parked.pop(step, None)
            case f.ToolDone(step=step) | f.ToolFailed(step=step, retry=False):
                parked.pop(step, None)
            case f.TimerFired(timer="approval", step=int(step)):
                parked.pop(step, None)
            case f.Done():
                parked.clear()
    return [parked[step] for step in sorted(parked)]


def the_step(facts: Iterable[StoredFact]) -> int:
    """The only step of a task that waits; `facts` is all there is of the task.

    Raises:
        Permanent: `unknown_task` where there is nothing; `not_parked` where no step waits;
            `step_needed` where several do.
    """
    known = tuple(facts)
    if not known:
        raise Permanent("unknown_task", "the session has no task of this name", field="task")
    steps = [stored.fact.step for stored in waiting(known) if isinstance(stored.fact, f.Parked)]
    if not steps:
        raise Permanent("not_parked", "no step of the task waits for anybody")
    if len(steps) > 1:
        names = ", ".join(map(str, steps))
        raise Permanent("step_needed", f"several steps wait, say which: {names}", field="step")
    return steps[0]


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt of a step that failed and was not its result. `time` is the log's."""

    attempt: int
    code: str
    time: float


def tries(facts: Iterable[StoredFact]) -> dict[int, tuple[Try, ...]]:
    """The failed attempts of each step before its result."""
    found: dict[int, tuple[Try, ...]] = {}
    ended: set[int] = set()
    for stored in facts:
        match stored.fact:
            case f.InferFailed() | f.ToolFailed(retry=True) as fact:
                if fact.step not in ended:
                    failed = Try(fact.attempt, fact.error.code, stored.time)
                    found[fact.step] = (*found.get(fact.step, ()), failed)
            case f.Inferred(step=step) | f.ToolDone(step=step) | f.ToolFailed(step=step):
                ended.add(step)
    return found


@dataclass(frozen=True, slots=True)
class Note:
    """Something that people and the loop said to each other. `time` is the log's."""

    kind: Literal["parked", "approved", "rejected", "steered", "cancelled"]
    time: float
    step: int | None = None
    text: str = ""
    by: str = ""


def notes(facts: Iterable[StoredFact]) -> tuple[Note, ...]:
    """The conversation about the task, in order."""
    found: list[Note] = []
    for stored in facts:
        match stored.fact:
            case f.Parked() as fact:
                why = f"{fact.reason}: {fact.detail}" if fact.detail else fact.reason
                found.append(Note("parked", stored.time, fact.step, why))
            case f.Approved() as fact:
                found.append(Note("approved", stored.time, fact.step, _granted(fact), fact.by))
            case f.Rejected() as fact:
                found.append(Note("rejected", stored.time, fact.step, fact.note, fact.by))
            case f.Steered() as fact:
                found.append(Note("steered", stored.time, None, fact.text, fact.by))
            case f.Cancelled() as fact:
                found.append(Note("cancelled", stored.time, None, fact.reason, fact.by))
    return tuple(found)


def _granted(fact: f.Approved) -> str:
    """What an approval changed, and its note."""
    changed = (
        ("with other arguments", fact.arguments),
        ("with a result in its place", fact.result),
        ("with new limits", fact.limits),
    )
    words = [text for text, value in changed if value is not None]
    return ", ".join([*words, *([fact.note] if fact.note else [])])
