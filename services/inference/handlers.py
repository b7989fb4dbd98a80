"""One model call from transcript to answer: render, generate, stream deltas, say what was said.

Knows no bus: what it needs comes through ports, what it has to tell it returns.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from services.inference.core.answers import (
    calls_of,
    content_of,
    function_of,
    message_of,
    price_of,
    step_calls,
)
from services.inference.core.chat import ChatTemplate, TemplateFailed
from services.inference.core.generation import Generation, GenerationResult
from services.inference.core.pieces import Coalescer
from services.inference.core.toolcalls import TextDelta
from services.inference.ports import (
    Conversations,
    Engine,
    EngineFailed,
    GenerateRequest,
    Sampling,
    Tokenizer,
    TokenSink,
    TokenUsage,
    ToolShelf,
)
from shared.contracts import agents, facts
from shared.contracts.base import Message, SessionRef
from shared.contracts.tokens import DirectEvent, DirectResult
from shared.contracts.work import DirectRequest, InferStep, RouteStep
from shared.errors import Failure, Permanent
from shared.subjects import DIRECT_SESSION

Json = dict[str, object]
Key = tuple[SessionRef, str, int, int, int]
"""An attempt at a step, and its place: a deleted session may see the same names again."""
_REMEMBERED = 256
_NOTHING = GenerationResult(content="", tool_calls=(), malformed=(), finish_reason="stop")


@dataclass(frozen=True, slots=True)
class Model:
    """What the handlers use of a loaded model."""

    name: str
    worker: str
    context: int
    engine: Engine
    tokenizer: Tokenizer
    template: ChatTemplate


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose generation it is. Tenants never share cached prefixes: timing would tell."""

    request: str
    tenant: str


@dataclass(slots=True)
class Answer:
    """A generation while it runs, and its result at the end."""

    queued_ms: float
    started: float
    coalescer: Coalescer = field(default_factory=Coalescer)
    first_token: float | None = None
    result: GenerationResult | None = None
    usage: TokenUsage = field(default_factory=lambda: TokenUsage(0, 0, 0))

    def timings(self, now: float) -> facts.Timings:
        """Milliseconds so far."""
        first = self.first_token if self.first_token is not None else now
        return facts.Timings(
            queued_ms=round(self.queued_ms, 3),
            first_token_ms=round((first - self.started) * 1e3, 3),
            total_ms=round((now - self.started) * 1e3, 3),
        )


class Inference:
    """The handlers of a worker; `clock` gives epoch seconds, `ticks` monotonic ones."""

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
        self._running: dict[tuple[SessionRef, str], set[str]] = {}
        self._answered: OrderedDict[Key, Sequence[Message]] = OrderedDict()
        self._turns: dict[Key, tuple[asyncio.Lock, int]] = {}

    async def infer(
        self, work: InferStep, attempt: int, *, doubtful: bool = False
    ) -> Sequence[Message]:
        """Run a step; nothing comes back where the log shows that nobody waits for it any more.

        A step that the engine dropped is a fact of its own: whether and when it is tried again is
        the loop's to decide.

        Raises:
            Permanent: `context_too_long`, `invalid_request`.
            Transient: this worker or the bus cannot at the moment.
        """
        route = work.route
        step = (route.ref, route.task, route.step, route.attempt, route.seq)
        async with self._turn(step):
            if step not in self._answered:
                self._answered[step] = await self._infer(work, attempt, doubtful)
                if len(self._answered) > _REMEMBERED:
                    self._answered.popitem(last=False)
            return self._answered[step]

    async def _infer(self, work: InferStep, attempt: int, doubtful: bool) -> Sequence[Message]:
        route = work.route
        view = await self._conversations.view(route, repeated=doubtful or attempt > 1)
        if view.settled:
            return []
        answer = Answer((self._clock() - work.published) * 1e3, self._ticks())
        specs = (*self._shelf.specs(route.tools), *route.agents, *route.functions)
        tools = [] if route.demands.tool_choice == "none" else [function_of(one) for one in specs]
        owner = Owner(_key(route, attempt), route.ref.tenant)
        request = self._request(view.messages, tools, route.sampling, owner)
        generation = self._generation(route.sampling, bool(tools))
        running = self._running.setdefault((route.ref, route.task), set())
        running.add(request.request_id)
        try:
            async with aclosing(self._pieces(request, generation, answer)) as pieces:
                async for index, text in pieces:
                    await self._tokens.delta(route, attempt, index, text)
        except EngineFailed as error:
            return self.failed(work, attempt, error.as_failure())
        finally:
            running.discard(request.request_id)
            if not running:
                self._running.pop((route.ref, route.task), None)
        if answer.result is None or answer.result.finish_reason == "aborted":
            return []
        return [self._fact(work, attempt, answer, answer.result)]

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
        return [facts.InferFailed(task=route.task, step=route.step, error=failure, attempt=attempt)]

    async def complete(self, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
        """Run a stateless completion; the last event has `done`.

        Raises:
            Permanent, Transient: as `infer`.
        """
        answer = Answer(0.0, self._ticks())
        messages = [message_of(one) for one in request.messages]
        tools = [function_of(spec) for spec in request.tools]
        if request.count_only:
            answer.usage = TokenUsage(len(self._prompt(messages, tools)), 0, 0)
            yield DirectEvent(done=self._direct_result(request, answer, _NOTHING))
            return
        owner = Owner(request.id, request.tenant)
        order = self._request(messages, tools, request.sampling, owner)
        generation = self._generation(request.sampling, bool(tools))
        key = (SessionRef(request.tenant, DIRECT_SESSION), request.id)
        self._running.setdefault(key, set()).add(order.request_id)
        try:
            async with aclosing(self._pieces(order, generation, answer)) as pieces:
                async for _, text in pieces:
                    yield DirectEvent(text=text)
        finally:
            self._running.pop(key, None)
        if answer.result is not None:
            yield DirectEvent(done=self._direct_result(request, answer, answer.result))

    def completed(self, request: DirectRequest, result: DirectResult) -> facts.Completed:
        """The usage fact of a stateless completion."""
        return facts.Completed(
            id=request.id,
            model=result.model,
            worker=result.worker,
            usage=result.usage,
            price=price_of(request.target, result.usage),
            timings=result.timings,
            finish=result.finish,
        )

    async def abort(self, ref: SessionRef, task: str) -> None:
        """Free the engine of what runs for a task or completion."""
        for request in list(self._running.get((ref, task), ())):
            await self._model.engine.abort(request)

    # -- one generation ---------------------------------------------------------------------------

    def _request(
        self,
        messages: Sequence[Json],
        tools: Sequence[Json],
        sampling: agents.Sampling,
        owner: Owner,
    ) -> GenerateRequest:
        model = self._model
        prompt = self._prompt(messages, tools)
        room = model.context - len(prompt)
        if room < 1:
            raise Permanent(
                "context_too_long",
                f"the prompt has {len(prompt)} tokens, {model.name} takes {model.context}",
                field="messages",
            )
        return GenerateRequest(
            request_id=owner.request,
            cache_salt=owner.tenant,
            prompt=prompt,
            max_tokens=min(sampling.max_tokens, room),
            sampling=Sampling(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                seed=sampling.seed,
            ),
            stop_token_ids=model.tokenizer.eos_ids,
        )

    def _prompt(self, messages: Sequence[Json], tools: Sequence[Json]) -> tuple[int, ...]:
        try:
            return self._model.tokenizer.encode(self._model.template.render(messages, tools))
        except TemplateFailed as error:
            raise Permanent("invalid_request", str(error), field="messages") from error

    def _generation(self, sampling: agents.Sampling, tools: bool) -> Generation:
        return Generation(self._model.tokenizer.decode, sampling.stop, parse_tools=tools)

    async def _pieces(
        self, request: GenerateRequest, generation: Generation, answer: Answer
    ) -> AsyncGenerator[tuple[int, str]]:
        """Run the engine; yields (index, text) of the coalesced pieces, fills in `answer`."""
        engine = self._model.engine
        async with aclosing(engine.generate(request)) as chunks:
            async for chunk in chunks:
                now = self._ticks()
                if chunk.token_ids and answer.first_token is None:
                    answer.first_token = now
                events = generation.feed(chunk.token_ids)
                if chunk.finished is not None:
                    answer.usage = chunk.finished.usage
                    rest, answer.result = generation.finish(chunk.finished.reason)
                    events += rest
                text = "".join(event.text for event in events if isinstance(event, TextDelta))
                for piece in answer.coalescer.feed(text, now, last=chunk.finished is not None):
                    yield piece
                if generation.stopped and chunk.finished is None:
                    await engine.abort(request.request_id)

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
            timings=answer.timings(self._ticks()),
            stop_string=result.stop_string,
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
            timings=answer.timings(self._ticks()),
            stop_string=result.stop_string,
        )


def _key(route: RouteStep, attempt: int) -> str:
    return f"{route.ref}/{route.task}.{route.step}/{attempt}"


def _usage(usage: TokenUsage) -> facts.Usage:
    return facts.Usage(input=usage.prompt, cached=usage.cached, output=usage.completion)
