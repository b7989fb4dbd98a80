"""Counts what the loop sees: tasks, and Millrace's own part of each step.

A step's overhead is what `millrace show` calls so (`shared.timeline`): all of its time in the log,
but for the work itself. Steps that failed or waited in between are left out, and so are tasks whose
beginning this process has not seen. Facts that are read again are not counted again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from shared.contracts import facts as f
from shared.contracts.base import SessionRef
from shared.contracts.log import StoredFact
from shared.metrics.catalogue import (
    MESSAGE_WAIT,
    STEP_SECONDS,
    TASK_SECONDS,
    TASKS_ACCEPTED,
    TASKS_ENDED,
)

QUEUE = "sessions"
_MOST = 5000
"""Tasks that are followed at a time."""
_DISTURBING = (
    *(f.InferFailed, f.Parked, f.Approved, f.Rejected, f.Steered, f.TimerFired, f.Cancelled),
)


@dataclass(slots=True)
class _Task:
    """Times in the log: of the acceptance, of the last answer of a model, of the last result.

    `alone` says that nothing but work happened since the last answer.
    """

    accepted: float
    ready: float
    latest: float
    alone: bool = True


class LoopMeter:
    """Of one partition."""

    def __init__(self) -> None:
        self._highest = 0
        self._tasks: OrderedDict[tuple[SessionRef, str], _Task] = OrderedDict()
        STEP_SECONDS.show("overhead")
        MESSAGE_WAIT.show(QUEUE)

    def saw(self, stored: StoredFact, now: float) -> None:
        """A fact came."""
        if stored.seq <= self._highest:
            return
        self._highest = stored.seq
        MESSAGE_WAIT.observe(now - stored.time, QUEUE)
        fact, key = stored.fact, (stored.ref, stored.task)
        if isinstance(fact, f.Accepted):
            self._accepted(key, stored.time)
        elif isinstance(fact, f.Done):
            self._ended(key, fact, stored.time)
        elif (task := self._tasks.get(key)) is not None:
            _step(task, fact, stored.time)

    def _accepted(self, key: tuple[SessionRef, str], time: float) -> None:
        TASKS_ACCEPTED.add()
        self._tasks[key] = _Task(time, time, time)
        if len(self._tasks) > _MOST:
            self._tasks.popitem(last=False)

    def _ended(self, key: tuple[SessionRef, str], fact: f.Done, time: float) -> None:
        TASKS_ENDED.add(fact.status)
        task = self._tasks.pop(key, None)
        if task is not None:
            TASK_SECONDS.observe(time - task.accepted)


def _step(task: _Task, fact: object, time: float) -> None:
    if isinstance(fact, f.Inferred):
        if task.alone and not fact.cached and fact.attempt == 1:
            _overhead(time - task.latest, fact.timings.total_ms)
        task.ready = task.latest = time
        task.alone = True
    elif isinstance(fact, f.ToolDone):
        if task.alone and fact.attempt == 1:
            _overhead(time - task.ready, fact.duration_ms)
        task.latest = max(task.latest, time)
    elif isinstance(fact, f.ToolFailed):
        task.latest = max(task.latest, time)
        task.alone = task.alone and not fact.retry
    elif isinstance(fact, _DISTURBING):
        task.alone = False


def _overhead(gap: float, work_ms: float) -> None:
    STEP_SECONDS.observe(gap - work_ms / 1e3, "overhead")
