"""`Promises` in the log: the server refuses the second `tool_started` of an attempt (CAS 0)."""

from __future__ import annotations

from shared.bus.log import RunLog
from shared.contracts.base import SessionRef
from shared.contracts.facts import Cancelled, Done, ToolDone, ToolFailed, ToolStarted
from shared.contracts.log import StoredFact
from shared.contracts.work import RunTool


class LogPromises:
    """`Promises` on stream RUNS."""

    def __init__(self, log: RunLog) -> None:
        self._log = log

    async def begin(self, fact: ToolStarted, ref: SessionRef) -> bool:
        """See `Promises.begin`."""
        ack = await self._log.append(ref, fact)
        if not ack.duplicate:
            return True
        stored = await self._log.unique(ref, fact)
        begun = stored.fact if stored is not None else None
        return isinstance(begun, ToolStarted) and begun.executor == fact.executor

    async def settled(self, work: RunTool) -> bool:
        """See `Promises.settled`."""
        return any(_settles(stored, work) for stored in await self._log.read(work.ref, work.seq))


def _settles(stored: StoredFact, work: RunTool) -> bool:
    """A result of this very step, a failure of this attempt, or the end of the task."""
    fact = stored.fact
    if isinstance(fact, ToolFailed) and fact.retry and fact.attempt < work.attempt:
        return False
    if isinstance(fact, ToolDone | ToolFailed):
        return (fact.task, fact.step) == (work.task, work.step)
    return isinstance(fact, Done | Cancelled) and fact.task == work.task
