"""Chat completions: a stateless one through the router, or a durable task of an agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from services.ingress.core.caller import Caller
from services.ingress.core.catalog import find_agent
from services.ingress.core.chat_body import ChatBody, direct_requests, sampling_of, task_input
from services.ingress.core.chunks import (
    Choice,
    DirectChunks,
    Frame,
    TaskChunks,
    completion,
    task_output,
)
from services.ingress.core.tasks import Json, Order
from services.ingress.handlers.choices import interleaved
from services.ingress.handlers.placement import place
from services.ingress.ports import Answer, Catalog, Chunks, Completions, TaskHandle, Tasks
from shared.clock import mint_id, now
from shared.contracts.facts import Done, Usage
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

    async def answer(self, caller: Caller, body: ChatBody, key: str | None) -> Answer:
        """The whole answer at once."""
        if body.agent is not None:
            return await self._agent_answer(caller, body, key)
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

    async def stream(self, caller: Caller, body: ChatBody, key: str | None) -> Chunks:
        """Chunks. A stateless completion waits for its first event, so that a refusal of the
        router is a status, not a broken stream."""
        if body.agent is not None:
            task = await self._submit(caller, body, key)
            chunks = _task_chunks(task, TaskChunks(_task_frame(task, body)))
            return Chunks(chunks, _task_headers(task), durable=True)
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

    def _events(self, requests: Sequence[DirectRequest]) -> AsyncGenerator[Numbered]:
        return interleaved([self.completions.complete(request) for request in requests])

    async def _agent_answer(self, caller: Caller, body: ChatBody, key: str | None) -> Answer:
        task = await self._submit(caller, body, key)
        async with aclosing(task.events()) as events:
            async for event in events:
                if isinstance(done := event.data, Done):
                    choice = Choice(task_output(done), usage=done.totals.usage)
                    answer = completion(_task_frame(task, body), [choice])
                    return Answer(answer, _task_headers(task))
        raise _silent()

    async def _submit(self, caller: Caller, body: ChatBody, key: str | None) -> TaskHandle:
        agent = body.agent or ""
        spec = find_agent(agent, await self.catalog.agents(caller.tenant), "model")
        metadata = dict(body.metadata or {})
        placed = await place(self.tasks, caller.tenant, key, metadata.pop("session", None))
        if placed.known is not None:
            return placed.known
        order = Order(
            ref=placed.ref,
            task=placed.task,
            agent=agent,
            input=task_input(body, existing=await self.tasks.exists(placed.ref)),
            sampling=sampling_of(body, spec.sampling),
            metadata=metadata | ({"user": body.user} if body.user else {}),
        )
        return await self.tasks.submit(order, caller.trace_id)


def _direct(caller: Caller, body: ChatBody) -> tuple[list[DirectRequest], Frame]:
    name = mint_id("chatcmpl")
    frame = Frame(
        id=name,
        created=int(now()),
        model=body.model,
        include_usage=body.include_usage,
    )
    return direct_requests(body, caller.tenant, name), frame


def _task_frame(task: TaskHandle, body: ChatBody) -> Frame:
    return Frame(
        id=f"chatcmpl_{task.id}",
        created=int(now()),
        model=body.model,
        include_usage=body.include_usage,
        extra={"millrace": {"task": task.id, "session": task.session}},
    )


def _task_headers(task: TaskHandle) -> dict[str, str]:
    return {"Millrace-Task": task.id, "Millrace-Session": task.session}


async def _direct_chunks(
    first: Numbered, rest: AsyncGenerator[Numbered], frame: Frame, count: int
) -> AsyncGenerator[Json]:
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


async def _task_chunks(task: TaskHandle, chunks: TaskChunks) -> AsyncGenerator[Json]:
    async with aclosing(task.events()) as events:
        yield chunks.start()
        async for event in events:
            for chunk in chunks.of(event):
                yield chunk


def _silent() -> Transient:
    return Transient("request_timeout", "the answer ended before it was complete")
