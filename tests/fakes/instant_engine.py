"""Owns an engine without a model: it says at once what a script tells it to.

For tests and load tests of everything around an engine; never in the product path. It passes
the same suite as the real ones, so what works with it is not an accident of the fake.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

from services.inference.adapters.admission import check_request
from services.inference.core.generation import EngineFinish, TokenUsage
from services.inference.ports import (
    Ability,
    EngineBroken,
    EngineChunk,
    EngineFailed,
    EngineFinished,
    EngineInfo,
    EngineStats,
    EngineUnavailable,
    GenerateRequest,
    InvalidRequest,
    TokenLogprob,
)

Script = Callable[[GenerateRequest], Sequence[int]]


class InstantOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The fake's limits; `seconds_per_token` 0 yields to the loop and nothing more."""

    vocabulary: int = 512
    context_tokens: int = 1024
    max_sequences: int = 16
    kv_blocks: int = 64
    block_tokens: int = 32
    seconds_per_token: float = 0.0
    abilities: frozenset[Ability] = frozenset(("logprobs",))
    """What it says it can do; it is its script that does it."""


class _Run:
    def __init__(self, request: GenerateRequest, cached: int) -> None:
        self.request = request
        self.cached = cached
        self.produced = 0
        self.aborted = False


def echo_of_prompt(vocabulary: int) -> Script:
    """A script without end: every token follows from the prompt, the seed and its place."""

    def script(request: GenerateRequest) -> Sequence[int]:
        start = sum((i + 1) * token for i, token in enumerate(request.prompt))
        start += request.sampling.seed or 0
        return [(start + 7 * place) % vocabulary for place in range(request.max_tokens)]

    return script


class InstantEngine:
    """The engine port on a script; a script that ends before `max_tokens` ends with `stop`."""

    def __init__(self, script: Script | None = None, options: InstantOptions | None = None) -> None:
        self._options = options or InstantOptions()
        self._script = script or echo_of_prompt(self._options.vocabulary)
        self._slots = asyncio.Semaphore(self._options.max_sequences)
        self._runs: dict[str, _Run] = {}
        self._known: set[tuple[str, tuple[int, ...]]] = set()
        self._running = self._tokens = self._asked = self._hits = 0
        self._open = self._failing = self._for_ever = False
        self._breaking = self._broken = False
        self._info = EngineInfo(
            model="instant",
            context_tokens=self._options.context_tokens,
            vocabulary=self._options.vocabulary,
            capacity=self._options.max_sequences,
            kv_blocks=self._options.kv_blocks,
            block_tokens=self._options.block_tokens,
            abilities=self._options.abilities,
            fingerprint="fp_instant",
        )

    def fail_next_step(self) -> None:
        """The next token of whoever is next fails."""
        self._failing = True

    def break_next_step(self) -> None:
        """The next token breaks the engine for all who run and all who come."""
        self._breaking = True

    def fail_always(self, failing: bool = True) -> None:
        """Every token fails until told otherwise."""
        self._failing = self._for_ever = failing

    async def start(self) -> EngineInfo:
        """See the port."""
        self._open = True
        return self._info

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[EngineChunk]:
        """See the port."""
        self._check(request)
        run = self._runs[request.request_id] = _Run(request, self._cached(request))
        try:
            async with self._slots:
                self._running += 1
                try:
                    async for chunk in self._tokens_of(run):
                        yield chunk
                finally:
                    self._running -= 1
                last = self._end(run)
        finally:
            self._runs.pop(request.request_id, None)
        yield last

    async def abort(self, request_id: str) -> None:
        """See the port."""
        run = self._runs.get(request_id)
        if run is not None:
            run.aborted = True

    def stats(self) -> EngineStats:
        """See the port."""
        return EngineStats(
            running=self._running,
            waiting=len(self._runs) - self._running,
            capacity=self._options.max_sequences,
            blocks_total=self._options.kv_blocks,
            blocks_free=self._options.kv_blocks,
            blocks_cached=0,
            tokens_generated=self._tokens,
            prompt_tokens=self._asked,
            cached_tokens=self._hits,
        )

    def health(self) -> EngineBroken | EngineUnavailable | None:
        """See the port."""
        if self._broken:
            return EngineBroken("told to break")
        return None if self._open else EngineUnavailable("the engine is not running")

    async def close(self) -> None:
        """See the port."""
        self._open = False
        for run in self._runs.values():
            run.aborted = True

    async def _tokens_of(self, run: _Run) -> AsyncGenerator[EngineChunk]:
        for token in self._script(run.request)[: run.request.max_tokens]:
            await asyncio.sleep(self._options.seconds_per_token)
            if run.aborted:
                return
            self._broken |= self._breaking
            if self._broken:
                raise EngineBroken("told to break")
            if self._failing:
                self._failing = self._for_ever
                raise EngineFailed("told to fail")
            run.produced += 1
            self._tokens += 1
            if token in run.request.stop_token_ids:
                return
            yield EngineChunk((token,), _certain(token, run.request.logprobs))

    def _end(self, run: _Run) -> EngineChunk:
        reason: EngineFinish = "stop"
        if run.aborted:
            reason = "aborted"
        elif run.produced >= run.request.max_tokens:
            reason = "length"
        usage = TokenUsage(len(run.request.prompt), run.produced, run.cached)
        return EngineChunk(finished=EngineFinished(reason, usage))

    def _cached(self, request: GenerateRequest) -> int:
        """The longest known prefix in whole blocks, leaving one token to compute."""
        size = self._options.block_tokens
        hit = 0
        for end in range(size, len(request.prompt) + 1, size):
            key = (request.cache_salt, request.prompt[:end])
            if key in self._known and end < len(request.prompt):
                hit = end
            self._known.add(key)
        self._asked += len(request.prompt)
        self._hits += hit
        return hit

    def _check(self, request: GenerateRequest) -> None:
        if not self._open:
            raise EngineUnavailable("the engine is not running")
        if self._broken:
            raise EngineBroken("told to break")
        if request.request_id in self._runs:
            raise InvalidRequest(f"request {request.request_id} is in flight already")
        check_request(request, self._info)


def _certain(token: int, alternatives: int | None) -> tuple[TokenLogprob, ...]:
    if alternatives is None:
        return ()
    return (TokenLogprob(token, 0.0, ((token, 0.0),)[:alternatives]),)
