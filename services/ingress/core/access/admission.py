"""Whether there is room for more: the work that waits, against a bound. Pure.

A request that would wait for minutes is better refused at once, with the time after which it is
worth another try: its client still has its own, and those who wait are not made to wait longer.
What runs already goes on; only new tasks and completions are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared.contracts.workers import WorkerState

LONGEST_WAIT = 60.0
"""Seconds at most that a client is told to wait: the queue may be shorter by then."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A consumer of model calls: what nobody has taken, what is taken and not done, done so far."""

    pending: int
    taken: int
    done: int


@dataclass(frozen=True, slots=True)
class Pressure:
    """Model calls that wait for a slot, and how many are done in a second."""

    waiting: int = 0
    per_s: float = 0.0


def pressure(lanes: Iterable[Lane], workers: Iterable[WorkerState], per_s: float) -> Pressure:
    """What waits: durable steps in their lanes, or all that the engines know of, whichever is more.

    An engine counts what it has pulled out of its lane as well, so the two are not added.
    """
    known = list(workers)
    slots = sum(worker.slots for worker in known)
    queued = sum(lane.pending + lane.taken for lane in lanes)
    held = sum(worker.running + worker.waiting for worker in known)
    return Pressure(max(0, max(queued, held) - slots), per_s)


def wait_for(found: Pressure, bound: int) -> float | None:
    """Seconds after which another try is worth it; None where there is room, or no bound (0)."""
    if not bound or found.waiting < bound:
        return None
    if found.per_s <= 0:
        return LONGEST_WAIT / 6
    return min(LONGEST_WAIT, max(1.0, (found.waiting - bound + 1) / found.per_s))
