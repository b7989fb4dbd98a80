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
from services.ingress.core.tasks.repetition import fingerprint_of
from services.ingress.core.tasks.state import Json, Order
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
from shared.contracts.agents import AgentSpec, Sampling
from shared.contracts.base import check_token, task_of_call
from shared.contracts.facts import Accepted
from shared.contracts.tokens import DirectEvent, DirectResult
from shared.contracts.work import DirectRequest
from shared.errors import Permanent, Transient, error_of

_BY = "client"


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
            asked = await self._ask(caller, body, named)
            told = TaskMessageEvents(_task_envelope(asked.task, body), asked.turn)
            return Chunks(_task_events(asked, told), _task_headers(asked.task), durable=True)
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
        asked = await self._ask(caller, body, named)
        async with aclosing(asked.task.events(asked.after)) as events:
            async for event in events:
                if (end := asked.turn.of(event.data)) is not None:
                    message = task_message(_task_envelope(asked.task, body), end)
                    return Answer(message, _task_headers(asked.task))
        raise _silent()

    async def _ask(self, caller: Caller, body: MessagesBody, named: Named) -> Asked:
        """Give a task what its client's tools returned, or submit a new one."""
        asked = fingerprint_of(body, named.session)
        async with standing_for(self.keyed, caller, named.key, asked):
            return await self._begun(caller, body, named)

    async def _begun(self, caller: Caller, body: MessagesBody, named: Named) -> Asked:
        spec = find_agent(body.agent or "", await self.catalog.agents(caller.tenant), "model")
        own = frozenset(tool.name for tool in body.tools or ())
        if (task := await self._waiting(caller, body, named)) is not None:
            after = await _go_on(task, body, sampling_of(body, spec.sampling))
            return Asked(task, str(after), AgentTurn(own, goes_on=True))
        return Asked(await self._submit(caller, body, named, spec), "", AgentTurn(own))

    async def _waiting(self, caller: Caller, body: MessagesBody, named: Named) -> TaskHandle | None:
        """The task that made the calls whose results come; None where it is none of ours.

        Raises:
            Permanent: `unknown_call` where it is not of the agent or session that was named.
        """
        makers = {task_of_call(call) for call in body.returned}
        name = makers.pop() if len(makers) == 1 else None
        task = await self.tasks.find(caller.tenant, name) if name else None
        if task is None:
            return None
        facts = (stored.fact for stored in await task.facts())
        agents = {fact.agent.name for fact in facts if isinstance(fact, Accepted)}
        if body.agent not in agents or named.session not in (None, task.session):
            raise Permanent(
                "unknown_call",
                f"the calls were made by agent {', '.join(agents)} in session {task.session}",
                field=f"messages.{body.answered}.content",
            )
        return task

    async def _submit(
        self, caller: Caller, body: MessagesBody, named: Named, spec: AgentSpec
    ) -> TaskHandle:
        if named.session is not None:
            check_token(named.session, SESSION_HEADER)
        placed = await place(self.tasks, caller, named.key, named.session, body)
        if placed.known is not None:
            return placed.known
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
        return await self.tasks.submit(order, caller.trace_id)


@dataclass(frozen=True, slots=True)
class Asked:
    """A task, the event behind which this turn of it begins, and what tells its end."""

    task: TaskHandle
    after: str
    turn: AgentTurn


async def _go_on(task: TaskHandle, body: MessagesBody, sampling: Sampling) -> int:
    """Give the results, the client's words before them; the place of the last one in the log.

    Words behind the results would come too late: with the last result the model begins. A request
    that is repeated finds everything said already, and the same place.
    """
    if words := body.words:
        try:
            await task.steer(words, id=f"with-{next(iter(body.returned))}", by=_BY)
        except Permanent as error:
            if error.code not in ("not_running", "task_ended"):
                raise  # else it is a repetition, or the results will be refused
    terms = replace(terms_of(body), sampling=sampling)
    places = [
        await task.answer(call, result, terms=terms, by=_BY)
        for call, result in body.returned.items()
    ]
    return max(places)


def _direct(caller: Caller, body: MessagesBody, named: Named) -> tuple[DirectRequest, Envelope]:
    if named.session is not None:
        detail = f"{SESSION_HEADER}: a session needs model: agent:<name>"
        raise Permanent("invalid_request", detail, field=SESSION_HEADER)
    name = mint_id("msg")
    return caller.signed(direct_request(body, caller.tenant, name)), Envelope(name, body.model)


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


async def _task_events(asked: Asked, shown: TaskMessageEvents) -> AsyncGenerator[Json]:
    async with aclosing(asked.task.events(asked.after)) as events:
        yield shown.start()
        async for event in events:
            for one in shown.of(event):
                yield one
            if shown.ended:
                return


def _silent() -> Transient:
    return Transient("request_timeout", "the answer ended before it was complete")
