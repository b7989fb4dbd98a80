"""Owns what an engine says of itself beside its answers: statistics and changes of its cache.

Both are polled on the loop that the requests run on, from the first request on. An iteration that
has ended is begun again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from services.inference.adapters.trtllm.aside import awaited
from services.inference.adapters.trtllm.held import HeldBlocks
from services.inference.adapters.trtllm.library import Llm
from services.inference.core.blocks import PrefixReport
from services.inference.ports import EngineBroken

_POLL = 3600.0
"""Seconds that one iteration waits. Once it has ended the library gives nothing until the next
request comes, even if one is running: so it should not end."""
_PAUSE = 0.5
Poll = Callable[[float], AsyncIterator[Mapping[str, Any]]]
Hear = Callable[[Mapping[str, Any]], None]


class Reports:
    """Follows one engine. `beat` is called for each sign of life."""

    def __init__(self, llm: Llm, block_tokens: int, beat: Callable[[], None]) -> None:
        self._llm, self._beat = llm, beat
        self._held = HeldBlocks(block_tokens)
        self._tasks: list[asyncio.Task[None]] = []
        self._told = asyncio.Event()
        self._free = 0
        self._total = 0

    async def start(self, within: float) -> None:
        """Begin to follow; wait at most so long until the engine says how many blocks it has."""
        self._tasks = [
            asyncio.create_task(self._follow(self._llm.get_stats_async, self._on_stats)),
            asyncio.create_task(self._follow_events()),
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._told.wait()

    async def stop(self) -> None:
        """Stop following; what is known stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def blocks(self) -> int:
        """How many blocks the engine has; 0 where it has not said so."""
        return self._total or self._held.total

    def memory(self, *, idle: bool) -> tuple[int, int]:
        """Free blocks, and those that are free but hold a prefix, as of the last step.

        The engine counts a kept block as free. Its last word may be from before its last request
        ended: when nothing runs, nothing is in use.
        """
        available = self.blocks if idle else min(self._free, self.blocks)
        kept = min(len(self._held), available)
        return available - kept, kept

    def prefixes(self) -> PrefixReport:
        """The prefix blocks that the engine holds."""
        return self._held.report()

    async def _follow_events(self) -> None:
        await self._follow(self._llm.get_kv_cache_events_async, self._on_event)
        self._held.forget()

    async def _follow(self, poll: Poll, hear: Hear) -> None:
        """Without end. One that cannot tell may serve all the same: it is not heard any more."""
        with suppress(EngineBroken):
            while True:
                await awaited(lambda: self._hear_all(poll, hear), lambda _: None)
                await asyncio.sleep(_PAUSE)

    async def _hear_all(self, poll: Poll, hear: Hear) -> None:
        async for said in poll(_POLL):
            self._beat()
            hear(said)

    def _on_stats(self, said: Mapping[str, Any]) -> None:
        cache = said.get("kvCacheStats") or {}
        self._total = int(cache.get("maxNumBlocks") or self._total)
        self._free = int(cache.get("freeNumBlocks") or 0)
        if self._total:
            self._told.set()

    def _on_event(self, said: Mapping[str, Any]) -> None:
        self._held.apply(said)
        if self._held.total:
            self._told.set()
