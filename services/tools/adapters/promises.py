"""`Promises` in the log: the server refuses the second `tool_started` of an attempt (CAS 0)."""

from __future__ import annotations

from shared.bus.log import RunLog
from shared.contracts.base import SessionRef
from shared.contracts.facts import ToolStarted


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
