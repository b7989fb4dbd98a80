"""`Collector` over OTLP/HTTP: one request at a time, with all that has come together meanwhile.

While the collector is away, everything waits here and behind that in the log. A trace that it does
not take though it is there (too large, say) is given up, or it would stand in everybody's way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from shared.errors import Transient
from shared.otlp.sdk import Outbox
from shared.trace import Span, TraceContext

MOST = 512
"""Spans of a request, but for a trace that has more by itself."""
FIRST_DELAY, LONGEST_DELAY = 0.5, 15.0
VERDICTS = 3
"""Times that a trace is refused by a collector that is there, before it is given up."""


@dataclass(slots=True)
class _Waiting:
    spans: Sequence[Span]
    taken: asyncio.Future[None]
    alone: bool = False
    """It was part of a request that failed: nobody shall suffer from it again."""
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """Who hears of it when the collector is away, is back, and of a trace that is given up."""

    away: Callable[[], None]
    back: Callable[[], None]
    given_up: Callable[[str], None]


@dataclass(slots=True)
class OtlpCollector:
    """The collector that the standard variables name."""

    outbox: Outbox
    told: Told
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _sender: asyncio.Task[None] | None = None
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _away: bool = False

    def keeps(self, trace_id: str, parent: TraceContext | None, name: str) -> bool:
        """See `Collector.keeps`."""
        return self.outbox.spans.keeps(trace_id, parent, name)

    async def take(self, spans: Sequence[Span]) -> None:
        """See `Collector.take`. Waits for as long as the collector is away, until stopped."""
        if self._stopped.is_set():
            raise _stopping()
        one = _Waiting(spans, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
        await one.taken

    async def start(self) -> None:
        """Nothing is sent before there is something to send."""

    async def stop(self) -> None:
        """Wait for nobody any longer: what was not taken is told again by the next process."""
        self._stopped.set()
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        for one in self._waiting:
            if not one.taken.done():
                one.taken.set_exception(_stopping())
        await self.outbox.close()

    async def _send(self) -> None:
        delay = FIRST_DELAY
        while self._waiting:
            group = self._group()
            if await self.outbox.send([span for one in group for span in one.spans]):
                self._take_out(len(group))
                self._notice(away=False)
                delay = FIRST_DELAY
            elif len(group) > 1:
                for one in group:
                    one.alone = True
            elif not await self._refused(group[0]):
                self._notice(away=True)
                await self._pause(delay)
                delay = min(LONGEST_DELAY, delay * 2)

    def _group(self) -> list[_Waiting]:
        """The first ones that go together; they stay in line until they are taken."""
        group: list[_Waiting] = []
        size = 0
        for one in self._waiting:
            size += len(one.spans)
            if group and (size > MOST or one.alone or group[0].alone):
                break
            group.append(one)
        return group

    def _take_out(self, count: int) -> None:
        for _ in range(count):
            one = self._waiting.popleft()
            if not one.taken.done():
                one.taken.set_result(None)

    async def _refused(self, one: _Waiting) -> bool:
        """Whether it is this trace's fault: a collector that does not even take nothing is away."""
        if not await self.outbox.send([]):
            return False
        one.refused += 1
        if one.refused >= VERDICTS:
            self._take_out(1)
            self.told.given_up(one.spans[0].context.trace_id)
        else:
            await self._pause(FIRST_DELAY)
        return True

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    def _notice(self, *, away: bool) -> None:
        if away != self._away:
            (self.told.away if away else self.told.back)()
        self._away = away


def _stopping() -> Transient:
    return Transient("tracing_stops", "another process tells it", retry_after=0.0)
