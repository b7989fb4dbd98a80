"""`Collector` over OTLP/HTTP: one request at a time, with all that has come together meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from shared.errors import Transient
from shared.otlp.sdk import Outbox
from shared.trace import Span, TraceContext

MOST = 512
"""Spans of a request, but for a trace that has more by itself."""
Waiting = tuple[Sequence[Span], asyncio.Future[bool]]


class OtlpCollector:
    """The collector that the standard variables name.

    `refused` is called when it begins not to take spans, `taken` when it takes them again.
    """

    def __init__(
        self, outbox: Outbox, refused: Callable[[], None], taken: Callable[[], None]
    ) -> None:
        self._outbox, self._refused, self._taken = outbox, refused, taken
        self._waiting: list[Waiting] = []
        self._sender: asyncio.Task[None] | None = None
        self._away = False

    def keeps(self, trace_id: str, parent: TraceContext | None, name: str) -> bool:
        """See `Collector.keeps`."""
        return self._outbox.spans.keeps(trace_id, parent, name)

    async def take(self, spans: Sequence[Span]) -> None:
        """See `Collector.take`."""
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((spans, taken))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
        if not await taken:
            raise Transient("collector_unavailable", "the collector took no spans")

    async def close(self) -> None:
        """Send nothing more: what is not acknowledged is told again."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        await self._outbox.close()

    async def _send(self) -> None:
        while self._waiting:
            group = self._take_group()
            taken = await self._outbox.send([span for spans, _ in group for span in spans])
            self._notice(taken)
            for _, told in group:
                if not told.done():
                    told.set_result(taken)

    def _take_group(self) -> list[Waiting]:
        group, size = [self._waiting.pop(0)], 0
        size = len(group[0][0])
        while self._waiting and size + len(self._waiting[0][0]) <= MOST:
            group.append(self._waiting.pop(0))
            size += len(group[-1][0])
        return group

    def _notice(self, taken: bool) -> None:
        if taken == self._away:
            (self._taken if taken else self._refused)()
        self._away = not taken
