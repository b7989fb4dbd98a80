"""Owns what is the same for every endpoint: slots, aborts, time-outs, the answer's end.

Must not know SDKs or dialects. A request that fails is not tried again in here: whether that is
worth the money is for the loop and the router to decide, which see every failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from services.inference.adapters.provider.hearing import Heard, Reading
from services.inference.adapters.provider.refusals import UNAVAILABLE
from services.inference.adapters.provider.rotation import Rotation
from services.inference.core.answering import Answer, Json, Piece, Question
from services.inference.core.embedding import Bounds
from services.inference.ports import (
    Ability,
    Embedded,
    EngineFailed,
    EngineInfo,
    EngineStats,
    EngineUnavailable,
    InputTooLong,
    InvalidRequest,
    UnsupportedDemand,
)
from shared.contracts.embeddings import EmbeddingInput
from shared.errors import MillraceError
from shared.models import ProviderModel
from shared.telemetry import Log


class Wire(Protocol):
    """The conversation with an endpoint in its own words; errors are ours already."""

    @property
    def abilities(self) -> frozenset[Ability]:
        """What can be asked of it."""
        ...

    def request(self, question: Question) -> Json:
        """The body of a request; raises `Permanent` for what cannot be asked there."""
        ...

    def answer(self, request: Json) -> AsyncGenerator[Heard]:
        """Ask, and tell what is heard; closing it closes the connection."""
        ...

    async def count(self, question: Question) -> int:
        """How many tokens the prompt has; raises `UnsupportedDemand` where it does not tell."""
        ...

    async def embed(self, wanted: EmbeddingInput) -> Embedded:
        """Ask for vectors; raises `UnsupportedDemand` where it has none."""
        ...

    async def look(self) -> None:
        """Ask for something that costs nothing, with the key as it is now."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


_EMBEDS: frozenset[Ability] = frozenset(("embeddings",))


class _Aborted(Exception):
    """Somebody wants the answer no more."""


@dataclass(slots=True)
class _Run:
    """One request in flight. An abort ends what it waits for at once."""

    aborted: bool = False
    _scope: asyncio.Timeout | None = field(default=None)

    async def within[T](
        self, wait: Callable[[], Awaitable[T]], seconds: float | None, late: EngineFailed
    ) -> T:
        """Wait for something; raises `late` when the time is over."""
        if self.aborted:
            raise _Aborted
        try:
            async with asyncio.timeout(seconds) as self._scope:
                return await wait()
        except TimeoutError:
            raise _Aborted if self.aborted else late from None
        finally:
            self._scope = None

    def abort(self) -> None:
        """End it."""
        self.aborted = True
        if self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())


class ProviderChat:
    """`ChatModel` behind an endpoint, or a model that `Embeds`: a row says which."""

    def __init__(self, row: ProviderModel, wire: Wire, log: Log) -> None:
        self._row, self._wire, self._log = row, wire, log
        self._rotation = Rotation(wire.look, log)
        self._slots = asyncio.Semaphore(row.concurrency)
        self._runs: dict[str, _Run] = {}
        self._running = self._completion = self._prompt = self._cached = 0
        self._open = self._warned = False

    async def start(self) -> EngineInfo:
        """See the port. An endpoint that is down or refuses is started, too, without capacity."""
        self._open = True
        await self._rotation.begin()
        return EngineInfo(
            model=self._row.name,
            context_tokens=self._row.context,
            vocabulary=0,
            capacity=self._row.concurrency,
            kv_blocks=0,
            block_tokens=0,
            abilities=_EMBEDS if self._row.embeddings else self._wire.abilities,
            dimensions=self._row.dimensions or 0,
            bounds=Bounds(self._row.batch, self._row.batch_tokens),
        )

    async def pieces(self, question: Question, answer: Answer) -> AsyncGenerator[Piece]:
        """See the port."""
        self._check_talks()
        name = question.owner.request
        run = self._admitted(name)
        reading = Reading(question.held.most_calls)
        try:
            async with aclosing(self._heard(question, run)) as events:
                async for heard in events:
                    for piece in reading.told(heard, answer):
                        yield piece
            self._check_end(question, reading, answer)
        except _Aborted:
            pass
        except MillraceError as error:
            self._rotation.failed(error)
            raise
        finally:
            self._runs.pop(name, None)
        for piece in reading.ended(answer, aborted=run.aborted):
            yield piece
        self._completion += answer.usage.completion
        self._prompt += answer.usage.prompt
        self._cached += answer.usage.cached

    async def count(self, question: Question) -> int:
        """See the port."""
        self._check_talks()
        self._check_open()
        self._rotation.check()
        try:
            return await _Run().within(lambda: self._wire.count(question), *self._first())
        except MillraceError as error:
            self._rotation.failed(error)
            raise

    async def embed(self, request: str, wanted: EmbeddingInput) -> Embedded | None:
        """See `Embeds`."""
        self._check_embeds(wanted)
        run = self._admitted(request)
        try:
            async with self._slot(run):
                found = await run.within(lambda: self._wire.embed(wanted), *self._first())
        except _Aborted:
            return None
        except MillraceError as error:
            self._rotation.failed(error)
            raise
        finally:
            self._runs.pop(request, None)
        self._rotation.worked()
        self._prompt += found.tokens
        self._check_usage(known=bool(found.tokens))
        return found

    async def abort(self, request: str) -> None:
        """See the port."""
        if (run := self._runs.get(request)) is not None:
            run.abort()

    def stats(self) -> EngineStats:
        """See the port. There is no capacity while the endpoint is out of rotation."""
        return EngineStats(
            running=self._running,
            waiting=len(self._runs) - self._running,
            capacity=self._rotation.capacity(self._row.concurrency) if self._open else 0,
            blocks_total=0,
            blocks_free=0,
            blocks_cached=0,
            tokens_generated=self._completion,
            prompt_tokens=self._prompt,
            cached_tokens=self._cached,
            out=self._rotation.why,
        )

    def prefixes(self) -> None:
        """See the port: what an endpoint caches is its own business."""

    def forget(self, tenant: str, session: str) -> None:
        """See the port: what an endpoint keeps is its own affair."""

    def health(self) -> EngineUnavailable | None:
        """See the port. Out of rotation is not unwell: who comes is told why, and goes on."""
        return None if self._open else EngineUnavailable("the endpoint is not in use")

    async def close(self) -> None:
        """See the port."""
        self._open = False
        for run in self._runs.values():
            run.abort()
        await self._rotation.close()
        await self._wire.close()

    def _first(self) -> tuple[float, EngineFailed]:
        """How long the first word is waited for, and what it is if none comes."""
        wait = self._row.timeouts.first_token
        return wait, EngineFailed(f"the endpoint said nothing for {wait:g} s", UNAVAILABLE)

    def _check_open(self) -> None:
        if not self._open:
            raise EngineUnavailable("the endpoint is not in use")

    def _check_talks(self) -> None:
        if self._row.embeddings:
            detail = f"{self._row.name} gives vectors and no text: it is an embedding model"
            raise UnsupportedDemand(detail, field="model")

    def _check_embeds(self, wanted: EmbeddingInput) -> None:
        row = self._row
        if not row.embeddings:
            raise UnsupportedDemand(f"{row.name} is no embedding model", field="model")
        asked = wanted.dimensions not in (None, row.dimensions)
        if asked and "dimensions" in row.without:
            detail = f"the vectors of {row.name} have the length that they have"
            raise UnsupportedDemand(detail, field="dimensions")
        for place, one in enumerate(wanted.tokens):
            if len(one) > row.context:
                raise InputTooLong(f"{len(one)} tokens exceed the context of {row.context}", place)

    def _admitted(self, name: str) -> _Run:
        self._check_open()
        if name in self._runs:
            raise InvalidRequest(f"request {name} is in flight already")
        self._rotation.check()
        run = self._runs[name] = _Run()
        return run

    async def _heard(self, question: Question, run: _Run) -> AsyncGenerator[Heard]:
        """The events of the answer, when there is a slot, each in time."""
        request = self._wire.request(question)
        async with self._slot(run):
            try:
                async with aclosing(self._wire.answer(request)) as events:
                    yield await run.within(events.__anext__, *self._first())
                    wait = self._row.timeouts.between_tokens
                    late = EngineFailed(f"the endpoint fell silent for {wait:g} s")
                    while True:
                        yield await run.within(events.__anext__, wait, late)
            except StopAsyncIteration:
                return

    @asynccontextmanager
    async def _slot(self, run: _Run) -> AsyncIterator[None]:
        busy = EngineFailed("waited too long for a slot", UNAVAILABLE)
        await run.within(self._slots.acquire, None, busy)
        self._running += 1
        try:
            self._rotation.check()  # it may have left while this one waited
            yield
        finally:
            self._running -= 1
            self._slots.release()

    def _check_end(self, question: Question, reading: Reading, answer: Answer) -> None:
        """An answer without an end was cut off. What was said of it is not passed for a whole."""
        if reading.finish is None:
            raise EngineFailed("the endpoint's stream ended before the answer did")
        self._rotation.worked()
        asked = question.held.demands.logprobs is not None
        if asked and answer.scores is None and answer.coalescer.cuts:
            raise UnsupportedDemand("the endpoint gave no log-probabilities", field="logprobs")
        self._check_usage(known=reading.usage is not None)

    def _check_usage(self, *, known: bool) -> None:
        if not known and not self._warned:
            self._warned = True  # once: it is so with every answer
            self._log.warning("endpoint.usage_unknown", counted=0)
