"""Anthropic's messages: stateless ones through the router, or a durable task of an agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from msgspec.structs import replace

from services.ingress.core.access.caller import SESSION_HEADER, Caller
from services.ingress.core.catalog import find_agent
from services.ingress.core.messages.body import (
    CountBody,
    MessagesBody,
    count_request,
    direct_request,
    sampling_of,
    task_input,
    terms_of,
)
from services.ingress.core.messages.events import (
    AgentTurn,
    DirectMessageEvents,
    Envelope,
    TaskMessageEvents,
    direct_message,
    task_message,
)
from services.ingress.core.responses.fold import Place
from services.ingress.core.responses.place import Answers, agent_of, task_of
from services.ingress.core.tasks.repetition import fingerprint_of
from services.ingress.core.tasks.state import Json, Order, session_of_task
from services.ingress.handlers.answers import go_on
from services.ingress.handlers.placement import place
from services.ingress.handlers.repeated import standing_for
from services.ingress.ports import (
    Answer,
    Catalog,
    Chunks,
    Completions,
    Keyed,
    Named,
    TaskHandle,
    Tasks,
)
from shared.clock import mint_id
from shared.contracts.agents import AgentSpec
from shared.contracts.base import SessionRef, check_token
from shared.contracts.tasks import InputMessage
from shared.contracts.tokens import DirectEvent, DirectResult
from shared.contracts.work import DirectRequest
from shared.errors import Permanent, Transient, error_of

Asked = tuple[TaskHandle, AgentTurn]
"""A task, and what tells the end of this turn of it."""


@dataclass(frozen=True, slots=True)
class MessageHandlers:
    """`POST /v1/messages` and `/v1/messages/count_tokens`."""

    completions: Completions
    tasks: Tasks
    catalog: Catalog
    keyed: Keyed

    async def answer(self, caller: Caller, body: MessagesBody, named: Named) -> Answer:
        """The whole answer at once."""
        caller.check_model(body.model)
        if body.agent is not None:
            return await self._agent_answer(caller, body, named)
        request, envelope = _direct(caller, body, named)
        return Answer(direct_message(envelope, await self._result(request)), {})

    async def stream(self, caller: Caller, body: MessagesBody, named: Named) -> Chunks[Json]:
        """Events. A stateless answer waits for its first event, so that a refusal of the router
        is a status, not a broken stream."""
        caller.check_model(body.model)
        if body.agent is not None:
            task, turn = await self._ask(caller, body, named)
            told = TaskMessageEvents(_task_envelope(task, body), turn)
            return Chunks(_task_events(task, told), _task_headers(task), durable=True)
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
        caller.check_model(body.model)
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
        task, turn = await self._ask(caller, body, named)
        async with aclosing(task.events()) as events:
            async for event in events:
                if (end := turn.of(event)) is not None:
                    message = task_message(_task_envelope(task, body), end)
                    return Answer(message, _task_headers(task))
        raise _silent()

    async def _ask(self, caller: Caller, body: MessagesBody, named: Named) -> Asked:
        """Give a task what its client's tools returned, or submit a new one."""
        asked = fingerprint_of(body, named.session)
        async with standing_for(self.keyed, caller, named.key, asked):
            spec = find_agent(body.agent or "", await self.catalog.agents(caller.tenant), "model")
            found = await self._continued(caller, body, named, spec)
            return found or await self._submitted(caller, body, named, spec)

    async def _continued(
        self, caller: Caller, body: MessagesBody, named: Named, spec: AgentSpec
    ) -> Asked | None:
        """The turn that the results open; None where they are of elsewhere, or told otherwise.

        Raises:
            Permanent: `unknown_call` where the calls are not of the agent or session named.
        """
        if (name := task_of(body.returned)) is None:
            return None
        ref = SessionRef(caller.tenant, session_of_task(name))
        task = await self.tasks.known(ref, name)
        if task is None:
            return None
        agent = agent_of(await task.facts())
        if body.agent != agent or named.session not in (None, task.session):
            raise Permanent(
                "unknown_call",
                f"the calls were made by agent {agent} in session {task.session}",
                field=f"messages.{body.answered}.content",
            )
        words = (InputMessage(role="user", content=body.words),) if body.words else ()
        terms = replace(terms_of(body), sampling=sampling_of(body, spec.sampling))
        found = await go_on(task, Answers(body.returned, words, terms), spec.name)
        return None if found is None else (task, AgentTurn(found.place))

    async def _submitted(
        self, caller: Caller, body: MessagesBody, named: Named, spec: AgentSpec
    ) -> Asked:
        if named.session is not None:
            check_token(named.session, SESSION_HEADER)
        placed = await place(self.tasks, caller, named.key, named.session, body)
        if placed.known is not None:
            return _begun(placed.known)
        order = Order(
            ref=placed.ref,
            fingerprint=placed.fingerprint,
            key=caller.key,
            task=placed.task,
            agent=spec.name,
            input=task_input(body, existing=await self.tasks.exists(placed.ref)),
            sampling=sampling_of(body, spec.sampling),
            metadata={"user": body.user} if body.user else {},
            terms=terms_of(body),
        )
        return _begun(await self.tasks.submit(order, caller.trace_id))


def _begun(task: TaskHandle) -> Asked:
    return task, AgentTurn(Place(task.id))


def _direct(caller: Caller, body: MessagesBody, named: Named) -> tuple[DirectRequest, Envelope]:
    if named.session is not None:
        detail = f"{SESSION_HEADER}: a session needs model: agent:<name>"
        raise Permanent("invalid_request", detail, field=SESSION_HEADER)
    name = mint_id("msg")
    envelope = Envelope(name, body.model, thoughts=body.shown)
    return caller.signed(direct_request(body, caller.tenant, name)), envelope


def _task_envelope(task: TaskHandle, body: MessagesBody) -> Envelope:
    extra: Json = {"millrace": {"task": task.id, "session": task.session}}
    return Envelope(f"msg_{task.id}", body.model, extra, body.shown)


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
            if shown.ended:
                return


def _silent() -> Transient:
    return Transient("request_timeout", "the answer ended before it was complete")
