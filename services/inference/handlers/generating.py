"""One generation: a prompt made of messages and tools, the engine run, what it says as pieces.

Knows neither sessions nor completions; both are made of this.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from msgspec.structs import replace

from services.inference.core.answers import function_of
from services.inference.core.chat import ChatTemplate, TemplateFailed
from services.inference.core.demands import Held
from services.inference.core.generation import Generation, GenerationResult
from services.inference.core.pieces import Coalescer
from services.inference.core.scores import Scores
from services.inference.core.toolcalls import TextDelta, ToolCall
from services.inference.ports import (
    Engine,
    EngineChunk,
    GenerateRequest,
    InvalidRequest,
    Sampling,
    Tokenizer,
    TokenLogprob,
    TokenUsage,
    UnsupportedDemand,
)
from shared.contracts import agents, facts
from shared.contracts.tokens import Logprob
from shared.errors import Permanent

Json = dict[str, object]
Piece = tuple[int, str] | ToolCall
"""What becomes certain of an answer: more text and its index, or a whole call."""


@dataclass(frozen=True, slots=True)
class Model:
    """What the handlers use of a loaded model."""

    name: str
    worker: str
    context: int
    engine: Engine
    tokenizer: Tokenizer
    template: ChatTemplate
    fingerprint: str = ""


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
    scores: Scores | None = None
    """Only where log-probabilities were asked for."""

    def timings(self, now: float) -> facts.Timings:
        """Milliseconds so far."""
        first = self.first_token if self.first_token is not None else now
        return facts.Timings(
            queued_ms=round(self.queued_ms, 3),
            first_token_ms=round((first - self.started) * 1e3, 3),
            total_ms=round((now - self.started) * 1e3, 3),
        )


@dataclass(frozen=True, slots=True)
class Generating:
    """What one loaded model is asked, and what it says."""

    model: Model
    ticks: Callable[[], float]

    def request(
        self, messages: Sequence[Json], held: Held, sampling: agents.Sampling, owner: Owner
    ) -> GenerateRequest:
        """What the engine is asked.

        Raises:
            Permanent: `context_too_long`, `invalid_request`.
        """
        model = self.model
        constraint = held.constraint()
        prompt = self.prompt(messages, held)
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
            sampling=_sampling(sampling),
            stop_token_ids=model.tokenizer.eos_ids,
            constraint=constraint,
            logprobs=held.demands.logprobs,
        )

    def prompt(self, messages: Sequence[Json], held: Held) -> tuple[int, ...]:
        """The tokens that the model is shown.

        Raises:
            Permanent: `invalid_request`.
        """
        tools = [function_of(spec) for spec in held.shown]
        try:
            return self.model.tokenizer.encode(self.model.template.render(messages, tools))
        except TemplateFailed as error:
            raise Permanent("invalid_request", str(error), field="messages") from error

    async def pieces(
        self, request: GenerateRequest, held: Held, sampling: agents.Sampling, answer: Answer
    ) -> AsyncGenerator[Piece]:
        """Run the engine; yields coalesced text with its index and calls, fills in `answer`."""
        generation = Generation(
            self.model.tokenizer.decode, sampling.stop, bool(held.shown), held.most_calls
        )
        if request.logprobs is not None:
            answer.scores = Scores()
        try:
            async with aclosing(self.model.engine.generate(request)) as chunks:
                async for chunk in chunks:
                    for piece in self._told(chunk, generation, answer):
                        yield piece
                    if generation.stopped and chunk.finished is None:
                        await self.model.engine.abort(request.request_id)
        except (InvalidRequest, UnsupportedDemand) as error:  # by the name that the request has
            raise Permanent(error.code, error.detail, field=held.field_of(error.field)) from error

    def _told(self, chunk: EngineChunk, generation: Generation, answer: Answer) -> Iterator[Piece]:
        now = self.ticks()
        if chunk.token_ids and answer.first_token is None:
            answer.first_token = now
        if answer.scores is not None:
            answer.scores.add(map(self._logprob, chunk.logprobs))
        events = generation.feed(chunk.token_ids)
        if chunk.finished is not None:
            answer.usage = chunk.finished.usage
            rest, answer.result = generation.finish(chunk.finished.reason)
            events += rest
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        marked = any(not isinstance(event, TextDelta) for event in events)
        due = marked or chunk.finished is not None
        yield from answer.coalescer.feed(text, now, last=due)
        yield from (event for event in events if isinstance(event, ToolCall))
        if marked and answer.scores is not None:
            answer.scores.forget()  # what stood between the tags is no text

    def _logprob(self, entry: TokenLogprob) -> Logprob:
        top = tuple(self._rated(token, value) for token, value in entry.top)
        return replace(self._rated(entry.token_id, entry.logprob), top=top)

    def _rated(self, token: int, value: float) -> Logprob:
        tokenizer = self.model.tokenizer
        seen = tokenizer.decode(token)
        return Logprob(
            text=tokenizer.label(token), logprob=value, bytes=tuple(seen) if seen else None
        )


def _sampling(asked: agents.Sampling) -> Sampling:
    try:
        bias = tuple((int(token), value) for token, value in asked.logit_bias.items())
    except ValueError as error:
        raise InvalidRequest("a bias is for a token id", field="logit_bias") from error
    return Sampling(
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        seed=asked.seed,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
        logit_bias=bias,
    )
