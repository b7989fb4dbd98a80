"""Chat completions: a stateless one through the router, or a durable task of an agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from msgspec.structs import replace

from services.ingress.core.access.caller import Caller
from services.ingress.core.chat.body import ChatBody, direct_requests
from services.ingress.core.chat.chunks import (
    Choice,
    Chunk,
    DirectChunks,
    Frame,
    completion,
)
from services.ingress.handlers.agent_chat import AgentChat
from services.ingress.handlers.choices import interleaved
from services.ingress.ports import Answer, Catalog, Chunks, Completions, Keyed, Tasks
from shared.clock import mint_id, now
from shared.contracts.facts import Usage
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import DirectRequest
from shared.errors import Transient, error_of

Numbered = tuple[int, DirectEvent]
"""An event and the choice that it belongs to."""


@dataclass(frozen=True, slots=True)
class ChatHandlers:
    """`POST /v1/chat/completions`."""

    completions: Completions
    tasks: Tasks
    catalog: Catalog
    keyed: Keyed

    async def answer(self, caller: Caller, body: ChatBody, key: str | None) -> Answer:
        """The whole answer at once."""
        caller.check_model(body.model)
        if body.agent is not None:
            return await self._by_agent.answer(caller, body, key)
        requests, frame = _direct(caller, body)
        choices = [Choice(scored=bool(body.logprobs)) for _ in requests]
        async with aclosing(self._events(requests)) as events:
            async for index, event in events:
                if event.fingerprint and frame.fingerprint is None:
                    frame = replace(frame, fingerprint=event.fingerprint)
                choices[index].hear(event)
        if not all(choice.ended for choice in choices):
            raise _silent()
        return Answer(completion(frame, choices), {})

    async def stream(self, caller: Caller, body: ChatBody, key: str | None) -> Chunks[Chunk]:
        """Chunks. A stateless completion waits for its first event, so that a refusal of the
        router is a status, not a broken stream."""
        caller.check_model(body.model)
        if body.agent is not None:
            return await self._by_agent.stream(caller, body, key)
        requests, frame = _direct(caller, body)
        events = self._events(requests)
        first = await anext(events, None)
        if first is None:
            raise _silent()
        if (failure := first[1].error) is not None:
            await events.aclose()
            raise error_of(failure)
        frame = replace(frame, fingerprint=first[1].fingerprint or None)
        return Chunks(_direct_chunks(first, events, frame, len(requests)), {}, durable=False)

    @property
    def _by_agent(self) -> AgentChat:
        return AgentChat(self.tasks, self.catalog, self.keyed)

    def _events(self, requests: Sequence[DirectRequest]) -> AsyncGenerator[Numbered]:
        return interleaved([self.completions.complete(request) for request in requests])


def _direct(caller: Caller, body: ChatBody) -> tuple[list[DirectRequest], Frame]:
    name = mint_id("chatcmpl")
    frame = Frame(
        id=name,
        created=int(now()),
        model=body.model,
        include_usage=body.include_usage,
    )
    requests = direct_requests(body, caller.tenant, name)
    return [caller.signed(request) for request in requests], frame


async def _direct_chunks(
    first: Numbered, rest: AsyncGenerator[Numbered], frame: Frame, count: int
) -> AsyncGenerator[Chunk]:
    choices = [DirectChunks(frame, index) for index in range(count)]
    async with aclosing(rest):  # also when the client goes: closing aborts the generation
        for choice in choices:
            yield choice.start()
        for chunk in choices[first[0]].of(first[1]):
            yield chunk
        async for index, event in rest:
            for chunk in choices[index].of(event):
                yield chunk
    if frame.include_usage:
        yield frame.usage_chunk(sum((choice.usage for choice in choices), Usage()))


def _silent() -> Transient:
    return Transient("request_timeout", "the answer ended before it was complete")
