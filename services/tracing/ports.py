"""What the tracing service needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.contracts.base import SessionRef
from shared.contracts.log import StoredFact
from shared.trace import Span, TraceContext


class TaskLog(Protocol):
    """The log, task by task.

    Raises:
        Transient: the log cannot be reached.
    """

    async def facts(self, ref: SessionRef, task: str, upto: int) -> Sequence[StoredFact]:
        """The facts of a task up to a sequence, in order, its submission first.

        What is not there any more is missing.
        """
        ...

    async def submission(self, ref: SessionRef, task: str) -> StoredFact | None:
        """The message that submitted an accepted task; None where it is gone."""
        ...


class Collector(Protocol):
    """Whoever spans are for."""

    def keeps(self, trace_id: str, parent: TraceContext | None, name: str) -> bool:
        """Whether this trace is one of those that are kept. The same for the same trace, always."""
        ...

    async def take(self, spans: Sequence[Span]) -> None:
        """Give it the spans of a trace. When this returns it has them, or has refused for good.

        Raises:
            Transient: `tracing_stops` where it is away and there is no time left to wait for it.
        """
        ...
