"""`TaskLog` over stream RUNS: what belongs to one task, without reading all of its session."""

from __future__ import annotations

from collections.abc import Sequence

from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.contracts.base import SessionRef
from shared.contracts.facts import Accepted, Forked
from shared.contracts.log import StoredFact
from shared.subjects import session_filter

_NEAR = 10_000
"""Sequences before its end in which the submission of a task that never began is looked for."""


class BusTaskLog:
    """The log of a running system."""

    def __init__(self, bus: Bus) -> None:
        self._log = RunLog(bus)

    async def facts(self, ref: SessionRef, task: str, upto: int) -> Sequence[StoredFact]:
        """See `TaskLog.facts`."""
        accepted = await self._log.accepted(ref, task)
        if accepted is None:
            first = await self._log.first(ref)
            if first is not None and isinstance(first.fact, Forked) and first.fact.task == task:
                whole = await self._log.read(ref)
                return [one for one in whole if one.task == task and one.seq <= upto]
            return await self._between(ref, task, max(0, upto - _NEAR), upto)
        return await self._between(ref, task, _source(accepted) - 1, upto)

    async def submission(self, ref: SessionRef, task: str) -> StoredFact | None:
        """See `TaskLog.submission`."""
        accepted = await self._log.accepted(ref, task)
        if accepted is None:
            return None
        source = _source(accepted)
        found = await self._between(ref, task, source - 1, source)
        return found[0] if found else None

    async def _between(
        self, ref: SessionRef, task: str, after: int, upto: int
    ) -> Sequence[StoredFact]:
        """A page at a time: behind the task the session may have gone on for long."""
        found: list[StoredFact] = []
        while after < upto:
            page, reached = await self._log.read_page(session_filter(ref), after)
            found += [one for one in page if one.task == task and one.seq <= upto]
            if reached == after:
                break
            after = reached
        return found


def _source(accepted: StoredFact) -> int:
    return accepted.fact.source if isinstance(accepted.fact, Accepted) else accepted.seq
