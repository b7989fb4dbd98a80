"""Owns whether an endpoint is given work: a circuit breaker that looks for itself when to close.

    in     everything goes there
    out    refused (its key, its account), or unreachable a few times in a row: nothing goes there,
           the worker reports no capacity, and the endpoint is looked at after growing pauses
    trial  the look was good: one request may try; what becomes of it decides

Must not know SDKs. While it is out, requests fail at once with what had gone wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Literal

from services.inference.adapters.provider.refusals import UNAVAILABLE
from services.inference.ports import EndpointRefused, EngineFailed
from shared.errors import MillraceError
from shared.telemetry import Log

State = Literal["in", "out", "trial"]
IN_A_ROW = 3
"""So often may an endpoint be unavailable before nothing is sent to it any more."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 15.0


class Rotation:
    """The breaker of one endpoint. `look` asks it for something that costs nothing."""

    def __init__(
        self, look: Callable[[], Awaitable[None]], log: Log, pause: float = FIRST_PAUSE
    ) -> None:
        self._look, self._log = look, log
        self._first = self._pause = pause
        self._state: State = "in"
        self._row = 0
        self._error: MillraceError | None = None
        self._task: asyncio.Task[None] | None = None

    def capacity(self, whole: int) -> int:
        """How many requests may run, of those that could."""
        return {"in": whole, "trial": 1, "out": 0}[self._state]

    async def begin(self) -> None:
        """Look for the first time. A bad look is no error: the worker waits for a better one."""
        try:
            await self._look()
        except MillraceError as error:
            self._leave(error)

    @property
    def why(self) -> str:
        """What had gone wrong, while the endpoint is out; else nothing."""
        return self._error.detail if self._state == "out" and self._error is not None else ""

    def check(self) -> None:
        """Raise what had gone wrong, while the endpoint is out."""
        if self._state == "out" and self._error is not None:
            if isinstance(self._error, EndpointRefused):
                raise EndpointRefused(self._error.detail)
            raise EngineFailed(self._error.detail, UNAVAILABLE, self._pause)

    def worked(self) -> None:
        """An answer came to its end."""
        if self._state == "trial":
            self._log.info("endpoint.back")
        self._state, self._row, self._pause = "in", 0, self._first

    def failed(self, error: MillraceError) -> None:
        """A request failed; what is not the endpoint's state says nothing about it."""
        refused = isinstance(error, EndpointRefused)
        if not refused and error.code != UNAVAILABLE:
            return
        self._row += 1
        if self._state != "out" and (refused or self._state == "trial" or self._row >= IN_A_ROW):
            self._leave(error)

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _leave(self, error: MillraceError) -> None:
        self._state, self._error = "out", error
        self._log.error("endpoint.out", code=error.code, detail=error.detail)
        self._task = asyncio.create_task(self._return())

    async def _return(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            self._pause = min(LONGEST_PAUSE, self._pause * 2)
            try:
                await self._look()
            except MillraceError as error:
                self._error = error
                continue
            self._state = "trial"
            return
