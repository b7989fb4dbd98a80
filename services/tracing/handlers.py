"""What is told of a task that has ended: once it has, and as often as it takes.

A trace is told when its task is over, from the log alone. So none is lost with a process, a
collector that is away costs nobody anything, and the same task always has the same spans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.tracing.core.spans import root_of, spans_of
from services.tracing.ports import Collector, TaskLog
from shared.contracts.base import Message, SessionRef
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.trace import TraceContext

TOO_OLD = 24 * 3600.0
"""Seconds after which a trace is not told any more: a collector may be away for that long."""
_DEEPEST = 8
"""Agents that ask agents are followed so far up."""


class Tracing:
    """The handler; `clock` gives epoch seconds, `content` is whether words are shown."""

    def __init__(
        self,
        log: TaskLog,
        collector: Collector,
        clock: Callable[[], float],
        *,
        content: bool = False,
    ) -> None:
        self._log, self._collector, self._clock = log, collector, clock
        self._content = content

    async def ended(self, done: StoredFact) -> Sequence[Message]:
        """Tell the trace of a task.

        Raises:
            Transient: the log cannot be reached, or this process stops: it is told later.
        """
        if self._clock() - done.time > TOO_OLD:
            return []
        facts = await self._log.facts(done.ref, done.task, done.seq)
        spans = spans_of(facts, content=self._content)
        if spans:
            root = spans[0]
            above = await self._above(facts)
            if self._collector.keeps(root.context.trace_id, above, root.name):
                await self._collector.take(spans)
        return []

    async def _above(self, facts: Sequence[StoredFact]) -> TraceContext | None:
        """The span above the whole: what its owner has decided counts for all that is below.

        The task of an agent that another one asked is a part of that one's trace: either all of it
        is kept or nothing.
        """
        found: Sequence[StoredFact] = facts
        for _ in range(_DEEPEST):
            first = found[0]
            parent = first.fact.parent if isinstance(first.fact, TaskSubmitted) else None
            if parent is None:
                break
            ref = SessionRef(first.ref.tenant, parent.session)
            asking = await self._log.submission(ref, parent.task)
            if asking is None:
                break
            found = [asking]
        return root_of(found)[1]
