"""One model call from transcript to answer: render, generate, stream deltas, say what was said.

Knows no bus: what it needs comes through ports, what it has to tell it returns.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from services.inference.core.answering import Answer, Owner, Piece, Question
from services.inference.core.answers import (
    call_of,
    calls_of,
    content_of,
    message_of,
    price_of,
    step_calls,
    thoughts_of,
)
from services.inference.core.blocks import PrefixReport
from services.inference.core.demands import Held
from services.inference.core.embedding import Bounds
from services.inference.core.generation import GenerationResult, TokenUsage
from services.inference.core.toolcalls import ReasoningDelta, ToolCall
from services.inference.handlers.embedding import Embedding
from services.inference.handlers.gate import Gate
from services.inference.handlers.shortened import pieces_of
from services.inference.ports import (
    ChatModel,
    Conversations,
    EndpointRefused,
    EngineBroken,
    EngineFailed,
    EngineStats,
    EngineUnavailable,
    TokenSink,
    ToolShelf,
    UnsupportedDemand,
)
from shared.contracts import facts
from shared.contracts.base import Message, SessionRef
from shared.contracts.embeddings import EmbeddingInput
from shared.contracts.tokens import DirectEvent, DirectResult
from shared.contracts.work import DirectRequest, InferStep, RouteStep
from shared.errors import Failure, Transient, error_of
from shared.subjects import DIRECT_SESSION

Key = tuple[SessionRef, str, int, int, int]
"""An attempt at a step, and its place: a deleted session may see the same names again."""
_REMEMBERED = 256
_CLIENT_GONE = Failure(code="client_gone")
_NOTHING = GenerationResult(content="", tool_calls=(), malformed=(), finish_reason="stop")


@dataclass(frozen=True, slots=True)
class Model:
    """The model of a worker. `fingerprint` names what its tokens depend on beside the request."""

    name: str
    worker: str
    chat: ChatModel
    fingerprint: str = ""
    slots: int = 8
    """How many it answers at a time."""
    bounds: Bounds = field(default_factory=Bounds)
    """How much an embedding model takes at a time."""


async def _nothing() -> None:
    """What there is to do at the beginning of a generation, where there is nothing."""


class Inference:
    """The handlers of a worker; `clock` gives epoch seconds, `ticks` monotonic ones.

    `gate` is where its requests wait for each other.
    """

    def __init__(
        self,
        model: Model,
        conversations: Conversations,
        shelf: ToolShelf,
        tokens: TokenSink,
        clock: Callable[[], float],
        ticks: Callable[[], float],
    ) -> None:
        self._model, self._conversations, self._shelf = model, conversations, shelf
        self._tokens, self._clock, self._ticks = tokens, clock, ticks
        self.gate = Gate(model.slots)
        self._embedding = Embedding(model.chat, model.bounds, self.gate, ticks)
        self._running: dict[tuple[SessionRef, str], set[str]] = {}
        self._answered: OrderedDict[Key, Sequence[Message]] = OrderedDict()
        self._turns: dict[Key, tuple[asyncio.Lock, int]] = {}

    async def infer(
        self,
        work: InferStep,
        attempt: int,
        *,
        doubtful: bool = False,
        begun: Callable[[], Awaitable[None]] = _nothing,
    ) -> Sequence[Message]:
        """Run a step; nothing comes back where the log shows that nobody waits for it any more.

        A step that the engine dropped is a fact of its own, also where the engine broke over it:
        whether and when it is tried again is the loop's to decide, which counts. `begun` is told
        when the step waits no longer.

        Raises:
            Permanent: `context_too_long`, `invalid_request`, `unsupported_demand`.
            Transient: this worker or the bus cannot at the moment.
        """
        route = work.route
        step = (route.ref, route.task, route.step, route.attempt, route.seq)
        async with self._turn(step):
            if step not in self._answered:
                self._answered[step] = await self._infer(work, attempt, doubtful, begun)
                if len(self._answered) > _REMEMBERED:
                    self._answered.popitem(last=False)
            return self._answered[step]

    async def _infer(
        self, work: InferStep, attempt: int, doubtful: bool, begun: Callable[[], Awaitable[None]]
    ) -> Sequence[Message]:
        route = work.route
        view = await self._conversations.view(route, repeated=doubtful or attempt > 1)
        if view.settled:
            return []
        held = self._held(route)
        owner = Owner(_key(route, attempt), route.ref.tenant, route.ref.session)
        question = Question(
            view.messages, held, route.sampling, owner, route.priority, view.thoughts
        )
        with self._abortable((route.ref, route.task), owner.request):
            async with self.gate.turn(owner, route.priority, movable=True) as turn:
                if turn == "elsewhere":
                    raise Transient("worker_stopping", "another worker takes it", retry_after=0.0)
                if turn == "aborted":
                    return []
                await begun()
                return await self._generate(work, attempt, question)

    async def _generate(
        self, work: InferStep, attempt: int, question: Question
    ) -> Sequence[Message]:
        """Run the engine; the deltas go out on the way, what comes back is the fact."""
        route = work.route
        self._check_health()
        answer = Answer((self._clock() - work.published) * 1e3, self._ticks)
        try:
            async with aclosing(pieces_of(self._model.chat, question, answer)) as pieces:
                async for piece in pieces:
                    if (told := answer.telling.of(piece)) is not None:
                        await self._tokens.delta(route, attempt, told)
        except (EngineFailed, EndpointRefused) as error:
            return self.failed(work, attempt, error.as_failure())
        except EngineBroken as error:  # this engine is, the step may be answered by another one
            return self.failed(work, attempt, replace(error.as_failure(), family="transient"))
        if answer.result is None or answer.result.finish_reason == "aborted":
            return []
        if (unmet := question.held.unmet(answer.result)) is not None:
            return self.failed(work, attempt, unmet)
        return [self._fact(work, attempt, answer, answer.result)]

    def _check_health(self) -> None:
        """Nothing is begun on an engine that is known to be broken: others take it."""
        if (why := self._model.chat.health()) is not None:
            raise EngineUnavailable(why.detail)

    def _held(self, route: RouteStep) -> Held:
        if route.demands.logprobs is not None:
            raise UnsupportedDemand("a log keeps no log-probabilities", field="logprobs")
        return Held(
            route.demands, (*self._shelf.specs(route.tools), *route.agents, *route.functions)
        )

    @contextmanager
    def _abortable(self, key: tuple[SessionRef, str], request: str) -> Generator[None]:
        """Make a generation known to `abort` for as long as it runs."""
        running = self._running.setdefault(key, set())
        running.add(request)
        try:
            yield
        finally:
            running.discard(request)
            if not running:
                self._running.pop(key, None)

    @asynccontextmanager
    async def _turn(self, step: Key) -> AsyncGenerator[None]:
        """One delivery of a step at a time: a repeated one waits, then gets the same answer.

        The broker repeats work when it lost what it held in memory; the log would not tell yet.
        """
        lock, waiting = self._turns.get(step, (asyncio.Lock(), 0))
        self._turns[step] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            waiting = self._turns[step][1] - 1
            self._turns[step] = (lock, waiting)
            if not waiting:
                del self._turns[step]

    def failed(self, work: InferStep, attempt: int, failure: Failure) -> Sequence[Message]:
        """What the log shall say of an attempt without an answer; the loop goes on from there."""
        route = work.route
        fact = facts.InferFailed(
            task=route.task,
            step=route.step,
            error=failure,
            attempt=attempt,
            model=self._model.name,
            worker=self._model.worker,
        )
        return [fact]

    async def complete(self, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
        """Run a stateless completion, or an embedding; the last event has `done`.

        Raises:
            Permanent, Transient: as `infer`; `client_gone` where nobody waits for its turn.
        """
        if request.embedding is not None:
            async with aclosing(self._embedded(request, request.embedding)) as events:
                async for event in events:
                    yield event
            return
        messages = [message_of(one) for one in request.messages]
        owner, held = Owner(request.id, request.tenant), Held(request.demands, request.tools)
        thoughts = thoughts_of(request.messages)
        question = Question(messages, held, request.sampling, owner, request.priority, thoughts)
        came = self._ticks()
        if request.count_only:
            answer = Answer(0.0, self._ticks)
            answer.usage = TokenUsage(await self._model.chat.count(question), 0, 0)
            yield DirectEvent(done=self._direct_result(request, answer, _NOTHING))
            return
        with self._abortable((SessionRef(request.tenant, DIRECT_SESSION), request.id), request.id):
            async with self.gate.turn(owner, request.priority) as turn:
                if turn != "yours":
                    raise error_of(_CLIENT_GONE)
                answer = Answer((self._ticks() - came) * 1e3, self._ticks)
                try:
                    async with aclosing(self._told(request, question, answer)) as events:
                        async for event in events:
                            yield event
                except EngineBroken as error:  # this one is; the caller may try another one
                    raise EngineUnavailable(error.detail) from error

    async def _embedded(
        self, request: DirectRequest, wanted: EmbeddingInput
    ) -> AsyncGenerator[DirectEvent]:
        with self._abortable((SessionRef(request.tenant, DIRECT_SESSION), request.id), request.id):
            events = self._embedding.events(request, wanted, self._direct_result)
            async with aclosing(events):
                async for event in events:
                    yield event

    async def _told(
        self, request: DirectRequest, question: Question, answer: Answer
    ) -> AsyncGenerator[DirectEvent]:
        self._check_health()
        fingerprint = self._model.fingerprint
        async with aclosing(self._model.chat.pieces(question, answer)) as pieces:
            async for piece in pieces:
                if request.whole and answer.scores is None:
                    continue  # `done` has it again, but for the logprobs
                event = _event(request, answer, piece)
                yield replace(event, fingerprint=fingerprint) if fingerprint else event
                fingerprint = ""  # once is enough
        if answer.result is None:
            return
        done = self._direct_result(request, answer, answer.result)
        unmet = question.held.unmet(answer.result)
        yield DirectEvent(done=done, error=unmet, fingerprint=fingerprint)

    def not_completed(self, request: DirectRequest, failure: Failure) -> facts.Completed:
        """The fact of a stateless completion that failed: part of the request log, not billed."""
        return facts.Completed(
            id=request.id,
            model=self._model.name,
            worker=self._model.worker,
            usage=facts.Usage(),
            finish="aborted",
            route=request.model,
            error=Failure(code=failure.code, family=failure.family),
            metadata=request.metadata,
            key=request.key,
            kind=_kind(request),
        )

    def completed(
        self, request: DirectRequest, result: DirectResult, failure: Failure | None = None
    ) -> facts.Completed:
        """The usage fact of a stateless completion; one that came to nothing was computed, too."""
        if failure is None and result.finish == "aborted":
            failure = _CLIENT_GONE
        return facts.Completed(
            id=request.id,
            model=result.model,
            worker=result.worker,
            usage=result.usage,
            price=price_of(request.target, result.usage),
            timings=result.timings,
            finish=result.finish,
            metadata=request.metadata,
            route=request.model,
            key=request.key,
            error=failure and Failure(code=failure.code, family=failure.family),
            kind=_kind(request),
        )

    def stats(self) -> EngineStats:
        """How busy the model is; who waits at the gate is not counted."""
        return self._model.chat.stats()

    def prefixes(self) -> PrefixReport | None:
        """What the model's cache holds; None where nobody can tell."""
        return self._model.chat.prefixes()

    def forget(self, ref: SessionRef) -> None:
        """Nobody comes back to a session: let go of what is kept for its next prompt."""
        self._model.chat.forget(ref.tenant, ref.session)

    async def abort(self, ref: SessionRef, task: str) -> None:
        """Free the engine of what runs for a task or completion."""
        for request in list(self._running.get((ref, task), ())):
            self._embedding.drop(request)
            self.gate.drop(request)
            await self._model.chat.abort(request)

    def _fact(
        self, work: InferStep, attempt: int, answer: Answer, result: GenerationResult
    ) -> facts.Inferred:
        route = work.route
        usage = _usage(answer.usage)
        return facts.Inferred(
            task=route.task,
            step=route.step,
            content=content_of(result),
            cuts=answer.coalescer.cuts,
            tool_calls=step_calls(route.task, route.step, result),
            finish=result.finish_reason,
            usage=usage,
            price=price_of(work.target, usage),
            model=self._model.name,
            worker=self._model.worker,
            attempt=attempt,
            timings=answer.timings(),
            stop_string=result.stop_string,
            reasoning=result.reasoning,
            thought_cuts=answer.telling.thought_cuts,
            placed=work.target.why,
        )

    def _direct_result(
        self, request: DirectRequest, answer: Answer, result: GenerationResult
    ) -> DirectResult:
        return DirectResult(
            content=content_of(result),
            tool_calls=calls_of(request.id, result),
            finish=result.finish_reason,
            usage=_usage(answer.usage),
            model=self._model.name,
            worker=self._model.worker,
            timings=answer.timings(),
            stop_string=result.stop_string,
            reasoning=result.reasoning,
        )


def _event(request: DirectRequest, answer: Answer, piece: Piece) -> DirectEvent:
    if isinstance(piece, ReasoningDelta):
        return DirectEvent(reasoning=piece.text)
    if isinstance(piece, ToolCall):
        return DirectEvent(call=call_of(request.id, piece))
    if answer.scores is None:
        return DirectEvent(text=piece[1])
    return DirectEvent(text=piece[1], logprobs=answer.scores.take(piece[1]))


def _kind(request: DirectRequest) -> Literal["completion", "embedding"]:
    return "completion" if request.embedding is None else "embedding"


def _key(route: RouteStep, attempt: int) -> str:
    return f"{route.ref}/{route.task}.{route.step}/{attempt}"


def _usage(usage: TokenUsage) -> facts.Usage:
    return facts.Usage(
        input=usage.prompt,
        cached=usage.cached,
        output=usage.completion,
        reasoning=usage.reasoning,
    )
