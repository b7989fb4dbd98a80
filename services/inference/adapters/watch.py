"""Owns the look at a model's health: a worker whose engine is broken comes to an end.

Must not know what an engine is made of. What broke it may have left memory, threads or a device in
any state, so nothing is mended here: whoever keeps the process running starts a new one.
"""

from __future__ import annotations

import asyncio

from services.inference.ports import ChatModel, EngineBroken
from shared.telemetry import Log

_EVERY = 0.25


class Watch:
    """Sets `stop` when the model can serve nothing more, keeps the reason, and closes the model:

    whoever still waits for a step that does not end hears of it, while the lanes wait for them.
    """

    def __init__(self, chat: ChatModel, stop: asyncio.Event, log: Log) -> None:
        self._chat, self._stop, self._log = chat, stop, log
        self._task: asyncio.Task[None] | None = None
        self.why: EngineBroken | None = None

    async def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Look no more; a close that has begun is waited for."""
        if self._task is None:
            return
        if self.why is None:
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        while self.why is None:
            await asyncio.sleep(_EVERY)
            why = self._chat.health()
            if isinstance(why, EngineBroken):
                self.why = why
        self._log.error("engine.broken", detail=self.why.detail)
        self._stop.set()
        await self._chat.close()
