"""What a task waits for a person for: parked steps that nobody has answered (pure)."""

from __future__ import annotations

from collections.abc import Iterable

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
    """The only step that waits.

    Raises:
        Permanent: `not_parked` where none does; `step_needed` where several do.
    """
    steps = [stored.fact.step for stored in waiting(facts) if isinstance(stored.fact, f.Parked)]
    if not steps:
        raise Permanent("not_parked", "no step of the task waits for anybody")
    if len(steps) > 1:
        names = ", ".join(map(str, steps))
        raise Permanent("step_needed", f"several steps wait, say which: {names}", field="step")
    return steps[0]
