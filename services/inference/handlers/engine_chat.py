"""A chat model made of an engine: a prompt of messages and tools, the engine run, what it says as
pieces. Everything between messages and tokens is here and in `core`, once for all engines.

Knows neither sessions nor completions; both are made of this.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from msgspec.structs import replace

from services.inference.core.answering import Answer, Piece, Question
from services.inference.core.answers import function_of
from services.inference.core.blocks import PrefixReport
from services.inference.core.chat import ChatTemplate, Segment, TemplateFailed
from services.inference.core.dialect import Dialect
from services.inference.core.generation import Generation
from services.inference.core.prefixes import PrefixWatch
from services.inference.core.scores import Scores
from services.inference.core.toolcalls import ReasoningDelta, TextDelta, ToolCall
from services.inference.ports import (
    Engine,
    EngineBroken,
    EngineChunk,
    EngineInfo,
    EngineStats,
    EngineUnavailable,
    Forgets,
    GenerateRequest,
    InvalidRequest,
    Sampling,
    TellsPrefixes,
    Tokenizer,
    TokenLogprob,
    UnsupportedDemand,
)
from shared.contracts import agents
from shared.contracts.tokens import Logprob
from shared.errors import Permanent
from shared.models import NONE


@dataclass(slots=True)
class EngineChat:
    """`ChatModel` over an engine: messages become tokens, tokens become text and calls.

    `context` bounds prompt and answer together, in tokens; what the engine can hold bounds it, too.
    `dialect` is how the model writes calls and reasoning.
    """

    engine: Engine
    tokenizer: Tokenizer
    template: ChatTemplate
    context: int
    watch: PrefixWatch = field(default_factory=PrefixWatch)
    dialect: Dialect = field(default_factory=Dialect)

    async def start(self) -> EngineInfo:
        """See the port."""
        info = await self.engine.start()
        self.context = min(self.context, info.context_tokens)
        if not self._can_stop_thinking:
            return info
        return replace(info, abilities=info.abilities | {"unthinking"})

    @property
    def _can_stop_thinking(self) -> bool:
        """A model that never thinks need not be told."""
        return self.template.can_stop_thinking or self.dialect.reasoning == NONE

    async def close(self) -> None:
        """See the port."""
        await self.engine.close()

    async def abort(self, request: str) -> None:
        """See the port."""
        await self.engine.abort(request)

    def stats(self) -> EngineStats:
        """See the port."""
        return replace(self.engine.stats(), prefixes_broken=self.watch.broken)

    def prefixes(self) -> PrefixReport | None:
        """See the port."""
        return self.engine.prefixes() if isinstance(self.engine, TellsPrefixes) else None

    def forget(self, tenant: str, session: str) -> None:
        """See the port."""
        self.watch.forget((tenant, session))
        if isinstance(self.engine, Forgets):
            self.engine.forget(_lineage(tenant, session))

    def health(self) -> EngineBroken | EngineUnavailable | None:
        """See the port."""
        return self.engine.health()

    async def count(self, question: Question) -> int:
        """See the port."""
        return len(self._prompt(question, self._rendered(question)))

    async def pieces(self, question: Question, answer: Answer) -> AsyncGenerator[Piece]:
        """See the port."""
        held, stops = question.held, question.sampling.stop
        rendered = self._rendered(question)
        request = self._request(question, rendered)
        reader = self.dialect.reader(held.shown, _tail(rendered))
        generation = Generation(self.tokenizer.decode, stops, reader, held.most_calls)
        if request.logprobs is not None:
            answer.scores = Scores()
        # where no token may end the answer before the engine does, tokens are read together
        early = stops or held.most_calls is not None or request.logprobs is not None
        waiting: list[int] = []
        try:
            async with aclosing(self.engine.generate(request)) as chunks:
                async for chunk in chunks:
                    if not (early or chunk.finished or answer.coalescer.due(answer.ticks())):
                        waiting += chunk.token_ids
                        continue
                    if waiting:
                        chunk = replace(chunk, token_ids=(*waiting, *chunk.token_ids))
                        waiting.clear()
                    for piece in self._told(chunk, generation, answer):
                        yield piece
                    if generation.stopped and chunk.finished is None:
                        await self.engine.abort(request.request_id)
        except (InvalidRequest, UnsupportedDemand) as error:  # by the name that the request has
            raise Permanent(error.code, error.detail, field=held.field_of(error.field)) from error

    def _request(self, question: Question, rendered: Sequence[Segment]) -> GenerateRequest:
        constraint = self.dialect.enforced(question.held.constraint(), _tail(rendered))
        prompt = self._prompt(question, rendered)
        room = self.context - len(prompt)
        if room < self._least(question):
            detail = f"the prompt has {len(prompt)} tokens, the model takes {self.context}"
            raise Permanent("context_too_long", detail, field="messages")
        if question.owner.session:
            self.watch.see((question.owner.tenant, question.owner.session), prompt)
        return GenerateRequest(
            request_id=question.owner.request,
            cache_salt=question.owner.tenant,
            prompt=prompt,
            max_tokens=min(question.sampling.max_tokens, room),
            sampling=_sampling(question.sampling),
            stop_token_ids=self.tokenizer.eos_ids,
            constraint=constraint,
            logprobs=question.held.demands.logprobs,
            priority=question.priority,
            # who has tools comes back with their results
            keep="long" if question.held.shown else "usual",
            lineage=_lineage(question.owner.tenant, question.owner.session),
        )

    def _least(self, question: Question) -> int:
        """Tokens that have to be left for the answer; whoever forgets does so for an answer."""
        if question.held.demands.truncation != "auto":
            return 1
        return min(question.sampling.max_tokens, self.context // 4)

    def _prompt(self, question: Question, rendered: Sequence[Segment]) -> tuple[int, ...]:
        return self.tokenizer.encode(rendered, question.owner.tenant)

    def _rendered(self, question: Question) -> tuple[Segment, ...]:
        if not question.messages:
            raise Permanent("invalid_request", "there is no message", field="messages")
        effort = question.held.demands.effort
        if effort == "none" and not self._can_stop_thinking:
            detail = "the model always thinks before it answers, and cannot be told not to"
            raise UnsupportedDemand(detail, field="reasoning_effort")
        tools = [function_of(spec) for spec in question.held.shown]
        try:
            messages = self.template.recalling(question.messages, question.thoughts)
            return self.template.render(messages, tools, effort=effort)
        except TemplateFailed as error:
            raise Permanent("invalid_request", str(error), field="messages") from error

    def _told(self, chunk: EngineChunk, generation: Generation, answer: Answer) -> Iterator[Piece]:
        now = answer.heard() if chunk.token_ids else answer.ticks()
        apart = generation.tokens_apart
        events = generation.feed(chunk.token_ids)
        if answer.scores is not None:
            spoken = chunk.logprobs[generation.tokens_apart - apart :]
            answer.scores.add(map(self._logprob, spoken))
        if chunk.finished is not None:
            rest, answer.result = generation.finish(chunk.finished.reason)
            answer.usage = replace(chunk.finished.usage, reasoning=generation.reasoning_tokens)
            events += rest
        texts = [event.text for event in events if isinstance(event, TextDelta)]
        thoughts = [event.text for event in events if isinstance(event, ReasoningDelta)]
        marked, answered = len(texts) < len(events), len(thoughts) < len(events)
        over = chunk.finished is not None
        thought = answer.thoughts.feed("".join(thoughts), now, last=answered or over)
        yield from [ReasoningDelta(piece) for _, piece in thought]
        yield from answer.coalescer.feed("".join(texts), now, last=marked or over)
        yield from [event for event in events if isinstance(event, ToolCall)]
        if marked and answer.scores is not None:
            answer.scores.forget()  # what stood between the tags is no text

    def _logprob(self, entry: TokenLogprob) -> Logprob:
        top = tuple(self._rated(token, value) for token, value in entry.top)
        return replace(self._rated(entry.token_id, entry.logprob), top=top)

    def _rated(self, token: int, value: float) -> Logprob:
        tokenizer = self.tokenizer
        seen = tokenizer.decode(token)
        return Logprob(
            text=tokenizer.label(token), logprob=value, bytes=tuple(seen) if seen else None
        )


def _lineage(tenant: str, session: str) -> str:
    """What an engine knows a session's prompts by; empty for those that are nobody's."""
    return f"{tenant}/{session}" if session else ""


def _tail(prompt: Sequence[Segment]) -> str:
    """How the template ended the prompt; what somebody wrote there says nothing."""
    return prompt[-1].text if prompt and not prompt[-1].literal else ""


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
