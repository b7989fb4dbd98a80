"""Owns the life of a TensorRT-LLM engine and of the requests in it; see `ports.Engine`.

Must not know messages or the bus. The library decides where a result can be awaited by the loop
that `generate_async` is called in; its constructor blocks for minutes, so that runs aside.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass

from services.inference.adapters.admission import check_request
from services.inference.adapters.trtllm.arguments import llm_arguments
from services.inference.adapters.trtllm.aside import built, freed
from services.inference.adapters.trtllm.flights import Flight, Flights
from services.inference.adapters.trtllm.library import Library, Llm, load
from services.inference.adapters.trtllm.pulse import Pulse
from services.inference.adapters.trtllm.reports import Reports
from services.inference.adapters.trtllm.sampling import Reader
from services.inference.adapters.trtllm.setup import Setup, describe
from services.inference.adapters.trtllm.submission import Submission, adapter_of
from services.inference.core.blocks import PrefixReport
from services.inference.core.generation import TokenUsage
from services.inference.ports import (
    EngineBroken,
    EngineChunk,
    EngineFailed,
    EngineFinished,
    EngineInfo,
    EngineStats,
    EngineUnavailable,
    GenerateRequest,
    Sampling,
)

_TOLD_WITHIN = 5.0
"""Seconds for the first statistics after the first request."""
_BROKEN_WITHIN = 2.0
"""Seconds for the shutdown of an engine that is done for, which may wait for its dead for ever."""


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that was built."""

    library: Library
    llm: Llm
    submission: Submission
    flights: Flights
    reports: Reports


class TensorRtEngine:
    """The engine port on TensorRT-LLM."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._pulse: Pulse | None = None
        self._running: Running | None = None
        self._info: EngineInfo | None = None
        self._begun = self._closed = self._probing = False
        self._probes: asyncio.Task[None] | None = None
        self._tokens = self._prompt_tokens = self._cached_tokens = 0

    async def start(self) -> EngineInfo:
        """See the port. Ready is an engine that has answered once, not one that was constructed."""
        self._begin()
        running = self._running = await self._build()
        if self._closed:
            await self._end(running)
            raise EngineUnavailable("the engine was closed while it started")
        await self._first_answer(running)
        running.flights.expect(self._setup.row.silence_s)
        await running.reports.start(_TOLD_WITHIN)
        self._probes = asyncio.create_task(self._probe_often(running))
        self._info = describe(self._setup, running.library, running.reports.blocks)
        return self._info

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[EngineChunk]:
        """See the port."""
        running, info = self._serving()
        check_request(request, info)
        flight = running.flights.begin(request.request_id)
        try:
            guided = await self._guided(request)
            if flight.aborted:  # while its constraint was looked at
                running.flights.over(flight)
                yield _ended(request)
                return
            self._serving()
            self._submit(running, flight, request, guided)
            async with aclosing(self._chunks(running, flight, request)) as chunks:
                async for chunk in chunks:
                    self._count(chunk)
                    yield chunk
        finally:
            running.flights.left(flight)

    async def abort(self, request_id: str) -> None:
        """See the port."""
        flight = self._running.flights.of(request_id) if self._running else None
        if flight is not None:
            flight.abort()

    def stats(self) -> EngineStats:
        """See the port."""
        capacity = self._setup.row.concurrency
        running = self._running
        inside = len(running.flights) - self._probing if running else 0
        total = running.reports.blocks if running else 0
        free, kept = running.reports.memory(idle=not inside) if running else (0, 0)
        return EngineStats(
            running=min(inside, capacity),
            waiting=max(inside - capacity, 0),
            capacity=capacity,
            blocks_total=total,
            blocks_free=free,
            blocks_cached=kept,
            tokens_generated=self._tokens,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
        )

    def prefixes(self) -> PrefixReport:
        """See `ports.TellsPrefixes`; the names are those of `core.blocks`."""
        if self._running is None:
            return PrefixReport(block_tokens=self._setup.row.block_tokens)
        return self._running.reports.prefixes()

    def health(self) -> EngineBroken | EngineUnavailable | None:
        """See the port."""
        broken = self._pulse.look() if self._pulse else None
        if broken is not None:
            return broken
        if self._info is None or self._closed:
            return EngineUnavailable("the engine is not running")
        return None

    async def close(self) -> None:
        """See the port. Bounded: an engine that does not end is broken, and left to the process."""
        first, self._closed = not self._closed, True
        if first and self._running is not None:
            await self._end(self._running)

    def _begin(self) -> None:
        if self._begun or self._closed:
            raise EngineUnavailable("an engine is started once")
        self._begun = True

    async def _build(self) -> Running:
        """Import, construct; the pulse begins when there is somebody to feel it of."""
        row = self._setup.row
        library = await built(load, "trtllm-import", row.load_s)
        arguments = llm_arguments(row, library)
        adapter = adapter_of(library, row)
        llm = await built(lambda: library.llm(**arguments), "trtllm-build", row.load_s)
        submission = Submission(library, llm, self._setup.vocabulary, adapter)
        pulse = self._pulse = Pulse(row.load_s, asyncio.get_running_loop().time)
        flights = Flights(pulse, submission.failed)
        reports = Reports(llm, row.block_tokens, pulse.beat)
        return Running(library, llm, submission, flights, reports)

    async def _first_answer(self, running: Running) -> None:
        try:
            await self._probe(running)
        except EngineFailed as error:
            raise EngineBroken(f"the first request failed: {error.detail}") from error

    async def _probe_often(self, running: Running) -> None:
        """An engine that dies while nobody asks would be found out by the next one who does."""
        with suppress(EngineBroken, EngineUnavailable):  # its health says so
            while True:
                await asyncio.sleep(self._setup.probe_s)
                if not len(running.flights):
                    with suppress(EngineFailed):  # a step that failed, and no more
                        await self._probe(running)

    async def _probe(self, running: Running) -> None:
        """One token of a request that nobody asked for."""
        request = GenerateRequest(
            request_id="(probe)",
            prompt=(running.submission.eos or 0,),
            max_tokens=1,
            sampling=Sampling(temperature=0),
        )
        flight = running.flights.begin(request.request_id)
        self._probing = True
        try:
            self._submit(running, flight, request, None)
            async for _ in self._chunks(running, flight, request):
                pass
        finally:
            self._probing = False
            running.flights.left(flight)

    def _submit(
        self,
        running: Running,
        flight: Flight,
        request: GenerateRequest,
        guided: Mapping[str, object] | None,
    ) -> None:
        """Give it to the engine; one that has shut itself down is no engine any more."""
        try:
            running.flights.submitted(flight, running.submission.submit(request, guided))
        except EngineUnavailable as error:
            if not self._closed:
                running.flights.breaks(EngineBroken(error.detail))
            raise
        except EngineBroken as error:
            running.flights.breaks(error)
            raise

    async def _chunks(
        self, running: Running, flight: Flight, request: GenerateRequest
    ) -> AsyncGenerator[EngineChunk]:
        flights = running.flights
        reader = Reader(request, running.submission.eos, self._setup.row.block_tokens)
        while not flight.over:
            try:
                chunk = reader.read(await flights.step(flight))
            except (EngineFailed, EngineBroken):
                flights.over(flight)
                raise
            if chunk.finished is not None:
                flights.over(flight)
            yield chunk

    def _count(self, chunk: EngineChunk) -> None:
        self._tokens += len(chunk.token_ids)
        if chunk.finished is not None:
            self._prompt_tokens += chunk.finished.usage.prompt
            self._cached_tokens += chunk.finished.usage.cached

    async def _guided(self, request: GenerateRequest) -> Mapping[str, object] | None:
        if request.constraint is None:
            return None
        return await asyncio.to_thread(self._setup.guide, request.constraint)

    def _serving(self) -> tuple[Running, EngineInfo]:
        if self._running is None or self._info is None or self._closed:
            raise EngineUnavailable("the engine is not running")
        if self._pulse is not None and (broken := self._pulse.look()) is not None:
            raise broken
        return self._running, self._info

    async def _end(self, running: Running) -> None:
        """Abort what runs, then let the library free everything; both may never come back."""
        if self._probes is not None:
            self._probes.cancel()
        if not await running.flights.all_over(self._setup.drain_s):
            running.flights.breaks(EngineBroken("requests did not come to an end"))
        await running.reports.stop()
        broken = self._pulse is not None and self._pulse.look() is not None
        within = self._setup.shutdown_s
        if broken:
            within = min(within, _BROKEN_WITHIN)
        if (stuck := await freed(running.llm.shutdown, within)) is not None:
            running.flights.breaks(stuck)


def _ended(request: GenerateRequest) -> EngineChunk:
    return EngineChunk(finished=EngineFinished("aborted", TokenUsage(len(request.prompt), 0, 0)))
