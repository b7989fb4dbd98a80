"""Anthropic's messages: stateless ones through the router, or a durable task of an agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from services.ingress.core.caller import SESSION_HEADER, Caller
from services.ingress.core.catalog import find_agent
from services.ingress.core.message_events import (
    DirectMessageEvents,
    Envelope,
    TaskMessageEvents,
    direct_message,
    task_message,
)
from services.ingress.core.messages_body import (
    CountBody,
    MessagesBody,
    count_request,
    direct_request,
    sampling_of,
    task_input,
)
from services.ingress.core.tasks import Json, Order
from services.ingress.handlers.placement import place
from services.ingress.ports import Answer, Catalog, Chunks, Completions, Named, TaskHandle, Tasks
from shared.clock import mint_id
from shared.contracts.base import check_token
from shared.contracts.facts import Done, Inferred
from shared.contracts.tokens import DirectEvent, DirectResult
from shared.contracts.work import DirectRequest
from shared.errors import Permanent, Transient, error_of


@dataclass(frozen=True, slots=True)
class MessageHandlers:
    """`POST /v1/messages` and `/v1/messages/count_tokens`."""

    completions: Completions
    tasks: Tasks
    catalog: Catalog

    async def answer(self, caller: Caller, body: MessagesBody, named: Named) -> Answer:
        """The whole answer at once."""
        if body.agent is not None:
            return await self._agent_answer(caller, body, named)
        request, envelope = _direct(caller, body, named)
        return Answer(direct_message(envelope, await self._result(request)), {})

    async def stream(self, caller: Caller, body: MessagesBody, named: Named) -> Chunks:
        """Events. A stateless answer waits for its first event, so that a refusal of the router
        is a status, not a broken stream."""
        if body.agent is not None:
            task = await self._submit(caller, body, named)
            shown = _task_events(task, TaskMessageEvents(_task_envelope(task, body)))
            return Chunks(shown, _task_headers(task), durable=True)
        request, envelope = _direct(caller, body, named)
        events = self.completions.complete(request)
        first = await anext(events, None)
        if first is None:
            raise _silent()
        if first.error is not None:
            await events.aclose()
            raise error_of(first.error)
        shown = _direct_events(first, events, DirectMessageEvents(envelope))
        return Chunks(shown, {}, durable=False)

    async def count(self, caller: Caller, body: CountBody) -> Json:
        """How many tokens a model would read."""
        request = count_request(body, caller.tenant, mint_id("count"))
        return {"input_tokens": (await self._result(request)).usage.input}

    async def _result(self, request: DirectRequest) -> DirectResult:
        async with aclosing(self.completions.complete(request)) as events:
            async for event in events:
                if event.error is not None:
                    raise error_of(event.error)
                if event.done is not None:
                    return event.done
        raise _silent()

    async def _agent_answer(self, caller: Caller, body: MessagesBody, named: Named) -> Answer:
        task = await self._submit(caller, body, named)
        last: Inferred | None = None
        async with aclosing(task.events()) as events:
            async for event in events:
                if isinstance(event.data, Inferred):
                    last = event.data
                if isinstance(event.data, Done):
                    message = task_message(_task_envelope(task, body), event.data, last)
                    return Answer(message, _task_headers(task))
        raise _silent()

    async def _submit(self, caller: Caller, body: MessagesBody, named: Named) -> TaskHandle:
        agent = body.agent or ""
        spec = find_agent(agent, await self.catalog.agents(caller.tenant), "model")
        if named.session is not None:
            check_token(named.session, SESSION_HEADER)
        placed = await place(self.tasks, caller.tenant, named.key, named.session)
        if placed.known is not None:
            return placed.known
        order = Order(
            ref=placed.ref,
            task=placed.task,
            agent=agent,
            input=task_input(body, existing=await self.tasks.exists(placed.ref)),
            sampling=sampling_of(body, spec.sampling),
            metadata={"user": body.user} if body.user else {},
        )
        return await self.tasks.submit(order, caller.trace_id)


def _direct(caller: Caller, body: MessagesBody, named: Named) -> tuple[DirectRequest, Envelope]:
    if named.session is not None:
        detail = f"{SESSION_HEADER}: a session needs model: agent:<name>"
        raise Permanent("invalid_request", detail, field=SESSION_HEADER)
    name = mint_id("msg")
    return direct_request(body, caller.tenant, name), Envelope(name, body.model)


def _task_envelope(task: TaskHandle, body: MessagesBody) -> Envelope:
    extra: Json = {"millrace": {"task": task.id, "session": task.session}}
    return Envelope(f"msg_{task.id}", body.model, extra)


def _task_headers(task: TaskHandle) -> dict[str, str]:
    return {"Millrace-Task": task.id, SESSION_HEADER: task.session}


async def _direct_events(
    first: DirectEvent, rest: AsyncGenerator[DirectEvent], shown: DirectMessageEvents
) -> AsyncGenerator[Json]:
    async with aclosing(rest):  # also when the client goes: closing aborts the generation
        yield shown.start()
        for one in shown.of(first):
            yield one
        async for event in rest:
            for one in shown.of(event):
                yield one


async def _task_events(task: TaskHandle, shown: TaskMessageEvents) -> AsyncGenerator[Json]:
    async with aclosing(task.events()) as events:
        yield shown.start()
        async for event in events:
            for one in shown.of(event):
                yield one


def _silent() -> Transient:
    return Transient("request_timeout", "the answer ended before it was complete")
