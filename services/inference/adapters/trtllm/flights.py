"""Owns the requests that are in the engine: their names, their time-outs, and their way out.

A request whose reader has left is aborted and still drained: its slot is free only then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from services.inference.adapters.trtllm.aside import attempted, awaited
from services.inference.adapters.trtllm.library import Result
from services.inference.adapters.trtllm.pulse import Pulse
from services.inference.ports import EngineBroken, EngineFailed, InvalidRequest

Refused = Callable[[Exception], Exception | None]


@dataclass(slots=True, eq=False)
class Flight:
    """A request. `result` is set once the engine has it, `over` once the engine has let go."""

    request_id: str
    result: Result | None = None
    aborted: bool = False
    over: bool = False
    scope: asyncio.Timeout | None = None

    def abort(self) -> None:
        """Ask for the end; what is not in the engine yet ends before it gets there."""
        if not self.aborted and not self.over:
            self.aborted = True
            if self.result is not None:
                attempted(self.result.abort)  # what is dead already needs none


class Flights:
    """All of them. `failed` makes an error of one request of what the library raises."""

    def __init__(self, pulse: Pulse, failed: Refused) -> None:
        self._pulse, self._failed = pulse, failed
        self._named: dict[str, Flight] = {}
        self._all: set[Flight] = set()
        self._drains: set[asyncio.Task[None]] = set()
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return len(self._all)

    def expect(self, silence: float) -> None:
        """From now on the engine may be silent for so long."""
        self._pulse.limit = silence
        self._pulse.beat()

    def begin(self, request_id: str) -> Flight:
        """Take up a request.

        Raises:
            InvalidRequest: one of that name is here.
        """
        if request_id in self._named:
            raise InvalidRequest(f"request {request_id} is in flight already")
        flight = self._named[request_id] = Flight(request_id)
        self._all.add(flight)
        self._none.clear()
        return flight

    def of(self, request_id: str) -> Flight | None:
        """The request of that name."""
        return self._named.get(request_id)

    def submitted(self, flight: Flight, result: Result) -> None:
        """The engine has it now."""
        flight.result = result
        self._pulse.begun()

    async def step(self, flight: Flight) -> Result:
        """The result after its next step.

        Raises:
            EngineFailed: the engine gave this request up.
            EngineBroken: it is done for.
        """
        while True:
            if (broken := self._pulse.look()) is not None:
                raise broken
            try:
                found = await self._within(flight)
            except StopAsyncIteration as error:
                raise EngineFailed("the engine said nothing more, and not why") from error
            except EngineBroken as error:
                self.breaks(error)
                raise
            if found is not None:
                self._pulse.beat()
                return found

    def breaks(self, error: EngineBroken) -> None:
        """The engine is done for: everybody who waits for it is told."""
        self._pulse.broken = self._pulse.broken or error
        now = asyncio.get_running_loop().time()
        for flight in self._all:
            if flight.scope is not None:
                flight.scope.reschedule(now)

    def over(self, flight: Flight) -> None:
        """The engine has let go of it, or will never answer."""
        if not flight.over:
            flight.over = True
            if flight.result is not None:
                self._pulse.ended()
            self._land(flight)

    def left(self, flight: Flight) -> None:
        """Nobody reads any more: its name is free, its slot when the engine says so."""
        if flight.over:
            return
        if flight.result is None or self._pulse.broken is not None:
            self.over(flight)
            return
        self._forget(flight)
        flight.abort()
        drain = asyncio.create_task(self._drain(flight))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)

    async def all_over(self, within: float) -> bool:
        """Abort all and wait for their ends; whether they came."""
        for flight in list(self._all):
            flight.abort()
        try:
            async with asyncio.timeout(within):
                await self._none.wait()
        except TimeoutError:
            return False
        return True

    async def _drain(self, flight: Flight) -> None:
        try:
            while (await self.step(flight)).outputs[0].finish_reason is None:
                pass
        except (EngineFailed, EngineBroken):
            pass  # whoever is in the engine hears it, too
        finally:
            self.over(flight)

    async def _within(self, flight: Flight) -> Result | None:
        """The next step, None where it did not come before the silence had lasted too long."""
        result = flight.result
        if result is None:
            raise EngineFailed("the request is not in the engine")
        scope = asyncio.timeout_at(self._pulse.deadline)
        try:
            async with scope as flight.scope:
                return await awaited(lambda: anext(result), self._failed)
        except TimeoutError as error:
            if not scope.expired():
                flight.abort()
                raise EngineFailed("the engine timed out") from error
            return None
        finally:
            flight.scope = None

    def _forget(self, flight: Flight) -> None:
        if self._named.get(flight.request_id) is flight:
            del self._named[flight.request_id]

    def _land(self, flight: Flight) -> None:
        self._forget(flight)
        self._all.discard(flight)
        if not self._all:
            self._none.set()
