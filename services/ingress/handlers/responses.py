"""`/v1/responses`: a response is a task, or the part of one between two results of its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from services.ingress.core.access.caller import Caller
from services.ingress.core.catalog import find_agent
from services.ingress.core.responses.body import ResponseBody, terms_of_body
from services.ingress.core.responses.branch import said_until
from services.ingress.core.responses.conversations import conversation_of
from services.ingress.core.responses.events import ResponseEvents
from services.ingress.core.responses.fold import (
    ECHO,
    Json,
    Place,
    Response,
    not_found,
    place_of,
    responses_of,
)
from services.ingress.core.responses.input import (
    Given,
    check_balance,
    messages_of,
    parts_of,
    references,
)
from services.ingress.core.responses.place import Answers, outputs_of, task_of
from services.ingress.core.responses.render import input_items, output_items, response_json
from services.ingress.core.tasks.repetition import check_same_task, fingerprint_of
from services.ingress.core.tasks.state import Order, session_of_task, task_of_key
from services.ingress.handlers.answers import go_on
from services.ingress.handlers.placement import place
from services.ingress.handlers.repeated import standing_for
from services.ingress.ports import Catalog, Housekeeping, Keyed, Opened, TaskHandle, Tasks
from shared.contracts.agents import BARE, AgentSpec
from shared.contracts.base import SessionRef, check_token
from shared.contracts.log import StoredFact
from shared.contracts.tasks import InputMessage, Terms
from shared.errors import MillraceError, Permanent, Transient, error_of

_STOPPING = 5.0
"""Seconds that a cancelled response gets to come to its end before it is shown."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request, read and checked as far as it goes without the log."""

    caller: Caller
    body: ResponseBody
    key: str | None
    terms: Terms
    given: Given

    @property
    def answers(self) -> Answers:
        return Answers(outputs_of(self.given.results), self.given.after, self.terms)


@dataclass(frozen=True, slots=True)
class ResponseHandlers:
    """Create, look, follow, cancel, delete. Everything is in the log."""

    tasks: Tasks
    catalog: Catalog
    sessions: Housekeeping
    keyed: Keyed
    jobs: set[asyncio.Task[None]] = field(default_factory=set)
    """Deletions under way."""

    # -- create ------------------------------------------------------------------------------------

    async def create(
        self, caller: Caller, body: ResponseBody, key: str | None, own: frozenset[str] = frozenset()
    ) -> Opened:
        """Submit the task, or tell its client's results to the one that waits for them.

        `own` are responses that are not stored, and are known to this caller all the same.

        Raises:
            Permanent: what is wrong with the request, naming the field.
        """
        caller.check_model(body.model)
        agent = await self._agent(caller, body)
        items = await self._resolved(caller, body.input)
        given = parts_of(messages_of(items))
        ask = _Ask(caller, body, key, terms_of_body(body, agent.sampling), given)
        if not given.messages:
            raise Permanent("invalid_request", "the input is empty", field="input")
        async with standing_for(self.keyed, caller, key, fingerprint_of(body)):
            return await self._opened(ask, own)

    async def _opened(self, ask: _Ask, own: frozenset[str]) -> Opened:
        caller, body = ask.caller, ask.body
        if (known := await self._known(caller, ask.key)) is not None:
            check_same_task(await known.facts(), fingerprint_of(body))
            return Opened(known, Place(known.id), caller.tenant, stored=body.stored)
        if body.previous_response_id is not None:
            return await self._after(ask, body.previous_response_id, own)
        if body.conversation_id is not None:
            return await self._in_conversation(ask, body.conversation_id)
        return await self._alone(ask)

    async def _agent(self, caller: Caller, body: ResponseBody) -> AgentSpec:
        """The agent that `model` names, or the bare one on the route that it names."""
        agents = await self.catalog.agents(caller.tenant)
        if body.by_agent:
            check_token(body.agent, "model")
            return find_agent(body.agent, agents, "model")
        if body.model not in await self.catalog.routes():
            alive = {worker.model for worker in await self.catalog.workers()}
            if body.model not in alive:
                detail = f"The model {body.model[:80]!r} does not exist"
                raise Permanent("model_not_found", detail, field="model")
        return agents.get(BARE.name, (0, BARE))[1]

    async def _known(self, caller: Caller, key: str | None) -> TaskHandle | None:
        """What the same idempotency key has begun before, wherever that was."""
        if key is None:
            return None
        name = task_of_key(caller.tenant, caller.own(key))
        return await self.tasks.known(SessionRef(caller.tenant, session_of_task(name)), name)

    async def _alone(self, ask: _Ask) -> Opened:
        """Without a word about the past: what its results tell, else a session of its own."""
        name = task_of(ask.answers.outputs)
        if name is not None:
            ref = SessionRef(ask.caller.tenant, session_of_task(name))
            task = await self.tasks.known(ref, name)
            if task is not None and await self._alike(ask, task):
                opened = await self._continued(ask, task)
                if opened is not None:
                    return opened
        check_balance(ask.given.messages)
        return await self._submitted(ask, None, ask.given.messages)

    async def _after(self, ask: _Ask, previous: str, own: frozenset[str]) -> Opened:
        where = place_of(previous)
        task = await self._task(ask.caller, where)
        responses = responses_of(await self._since(ask.caller, task))
        found = _the(responses, where)
        if not _stored(found) and previous not in own:
            raise not_found(previous)
        alike = ask.body.stored == _stored(found)
        waiting = [call.id for call in found.waiting]
        if alike and set(waiting) == set(ask.answers.outputs):
            opened = await self._continued(ask, task)
            if opened is not None:
                return opened
        if found.open:
            detail = f"{previous} is still in progress: wait for it, or cancel it"
            raise Permanent("response_in_progress", detail, field="previous_response_id")
        check_balance(ask.given.messages, waiting)
        if found is responses[-1] and not waiting and alike:
            return await self._submitted(ask, task.session, ask.given.messages)
        history = await self.tasks.history(SessionRef(ask.caller.tenant, task.session))
        messages = (*said_until(history, found), *ask.given.messages)
        return await self._submitted(ask, None, messages)

    async def _in_conversation(self, ask: _Ask, name: str) -> Opened:
        ref = SessionRef(ask.caller.tenant, check_token(name, "conversation"))
        history = conversation_of(name, await self.tasks.history(ref))
        responses = responses_of(history)
        last = responses[-1] if responses else None
        if last is not None and ask.given.results:
            task = self.tasks.task(ref, last.place.task)
            opened = await self._continued(ask, task)
            if opened is not None:
                return opened
        if last is not None and last.open:
            detail = f"{last.place.id} is still in progress in this conversation"
            raise Permanent("conversation_locked", detail, field="conversation")
        known = [] if last is None else [call.id for call in last.waiting]
        check_balance(ask.given.messages, known)
        return await self._submitted(ask, name, ask.given.messages)

    async def _alike(self, ask: _Ask, task: TaskHandle) -> bool:
        """Whether a task is kept as its client wants this response to be kept.

        What is stored must not go with what is not, so the two never share a session.
        """
        last = responses_of(await task.facts())[-1:]
        return [_stored(one) for one in last] == [ask.body.stored]

    async def _continued(self, ask: _Ask, task: TaskHandle) -> Opened | None:
        """The response that the results open, where they fit."""
        if not ask.given.results:
            return None
        await self._kept(ask, SessionRef(ask.caller.tenant, task.session))
        found = await go_on(task, ask.answers, ask.body.agent)
        if found is None:
            return None
        return Opened(task, found.place, ask.caller.tenant, stored=ask.body.stored)

    async def _submitted(
        self, ask: _Ask, session: str | None, messages: tuple[InputMessage, ...]
    ) -> Opened:
        placed = await place(self.tasks, ask.caller, ask.key, session, ask.body)
        task = placed.known
        if task is None:
            await self._kept(ask, placed.ref)
            terms = ask.terms
            order = Order(
                ref=placed.ref,
                fingerprint=placed.fingerprint,
                key=ask.caller.key,
                task=placed.task,
                agent=ask.body.agent,
                input=messages,
                sampling=terms.sampling,
                metadata=terms.metadata,
                on_busy="queue",
                terms=terms,
            )
            task = await self.tasks.submit(order, ask.caller.trace_id)
        return Opened(task, Place(task.id), ask.caller.tenant, stored=ask.body.stored)

    async def _kept(self, ask: _Ask, ref: SessionRef) -> None:
        """Before the first word of what is not to be kept: nobody may be there behind the last."""
        if not ask.body.stored:
            await self.sessions.forget_later(ref)

    async def _resolved(
        self, caller: Caller, given: str | list[dict[str, object]]
    ) -> str | list[dict[str, object]]:
        """The input with the items in it that are only named."""
        if isinstance(given, str) or not references(given):
            return given
        found: list[dict[str, object]] = []
        for number, item in enumerate(given):
            if item.get("type") != "item_reference":
                found.append(item)
            else:
                found.append(await self._item(caller, str(item.get("id")), f"input.{number}.id"))
        return found

    async def _item(self, caller: Caller, name: str, field: str) -> Json:
        """An item of a response by its id: the id names the task."""
        task_name, _, _ = name.partition("_")[2].rpartition("_")
        for candidate in (task_name, task_name.rpartition("_")[0]):
            with suppress(MillraceError):
                task = await self._task(caller, Place(candidate))
                for response in responses_of(await task.facts()):
                    for item in (*input_items(response), *output_items(response)):
                        if item["id"] == name and _stored(response):
                            return item
        raise Permanent("item_not_found", f"Item with id {name[:100]!r} not found", field=field)

    # -- follow ------------------------------------------------------------------------------------

    async def events(self, opened: Opened, after: int = -1) -> AsyncGenerator[Json]:
        """The typed events of a response behind a number, to its end."""
        view = ResponseEvents(opened.task.id, opened.place.number)
        try:
            async with aclosing(opened.task.events()) as events:
                async for event in events:
                    for one in view.of(event):
                        if int(str(one["sequence_number"])) > after:
                            yield one
                    if view.ended:
                        return
        finally:
            self.forget(opened)

    async def answer(self, opened: Opened) -> Json:
        """The whole response at its end.

        Raises:
            MillraceError: why it failed.
        """
        view = ResponseEvents(opened.task.id, opened.place.number)
        try:
            async with aclosing(opened.task.events()) as events:
                async for event in events:
                    view.of(event)
                    if view.ended:
                        return _whole(_the(view.fold.responses, opened.place))
        finally:
            self.forget(opened)
        raise Transient("request_timeout", "the answer ended before it was complete")

    def forget(self, opened: Opened) -> None:
        """Delete the session of a response that is not to be stored, behind its answer.

        Nobody can ask for it by its id meanwhile, nor where this process dies before: then, or
        where the deletion fails, sessions forgets it an hour later (`forget_later`).
        """
        if not (opened.stored or opened.keep):
            job = asyncio.create_task(self._delete(SessionRef(opened.tenant, opened.task.session)))
            self.jobs.add(job)
            job.add_done_callback(self.jobs.discard)

    async def _delete(self, ref: SessionRef) -> None:
        with suppress(MillraceError):
            await self.sessions.delete_session(ref, force=True, by="store: false")

    # -- look --------------------------------------------------------------------------------------

    async def get(self, caller: Caller, response: str) -> Json:
        """A response as it is now."""
        _, found = await self._find(caller, response)
        return response_json(found)

    async def resume(self, caller: Caller, response: str) -> Opened:
        """A response that is to be followed (again)."""
        task, found = await self._find(caller, response)
        return Opened(task, found.place, caller.tenant)

    async def now(self, opened: Opened) -> Json:
        """A response right after its submission."""
        return response_json(_the(responses_of(await opened.task.facts()), opened.place))

    async def input_items(self, caller: Caller, response: str) -> list[Json]:
        """What it was asked, in order."""
        _, found = await self._find(caller, response)
        return input_items(found)

    async def cancel(self, caller: Caller, response: str) -> Json:
        """Stop it; one that has ended is answered as it is."""
        task, found = await self._find(caller, response)
        if found.open:
            with suppress(Permanent):  # it has ended meanwhile
                await task.cancel(by="client")
            with suppress(Transient):
                await task.result(timeout=_STOPPING)
        return await self.get(caller, response)

    async def delete(self, caller: Caller, response: str) -> Json:
        """Forget it: with its session where it stands alone.

        Raises:
            Permanent: `response_in_conversation` where others build on its session.
        """
        where = place_of(response)
        task = await self._task(caller, where)
        ref = SessionRef(caller.tenant, task.session)
        responses = responses_of(await self.tasks.history(ref))
        found = _the(responses, where)
        if not _stored(found):
            raise not_found(response)
        if any(one.place.task != where.task for one in responses) or found.echo.get("conversation"):
            detail = "other responses go on from it; delete the conversation, or its session"
            raise Permanent("response_in_conversation", detail, field="response_id")
        await self.sessions.delete_session(ref, force=True, by="client")
        return {"id": response, "object": "response", "deleted": True}

    async def _find(self, caller: Caller, response: str) -> tuple[TaskHandle, Response]:
        where = place_of(response)
        task = await self._task(caller, where)
        found = _the(responses_of(await task.facts()), where)
        if not _stored(found):
            raise not_found(response)
        return task, found

    async def _since(self, caller: Caller, task: TaskHandle) -> list[StoredFact]:
        """The facts of its session from the beginning of a task on: what comes before is long."""
        own = await task.facts()
        ref = SessionRef(caller.tenant, task.session)
        return await self.tasks.history(ref, own[0].seq - 1) if own else []

    async def _task(self, caller: Caller, where: Place) -> TaskHandle:
        task = await self.tasks.find(caller.tenant, check_token(where.task, "response_id"))
        if task is None:
            raise not_found(where.id)
        return task


def _stored(response: Response) -> bool:
    """Whether it may be looked at: it was asked for as a response, and to be stored."""
    return ECHO in response.metadata and response.echo.get("store") is not False


def _the(responses: list[Response], where: Place) -> Response:
    for response in responses:
        if response.place == where:
            return response
    raise not_found(where.id)


def _whole(response: Response) -> Json:
    """A response at its end.

    Raises:
        MillraceError: why it failed: a caller that waits shall not take it for an answer.
    """
    if response.status == "failed" and response.error is not None:
        raise error_of(response.error)
    return response_json(response)
