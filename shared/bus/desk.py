"""Answers the questions of tenants' own clients: `ask.<tenant>.<what>`, in turns.

A tenant has a few answers under way and some more in line; behind that it is told to come back, so
that one that asks without end costs the others nothing but their turn. The tenant is the one of the
subject, which the server has checked. Decision record 0050 has the reasons.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.bus.connect import Bus
from shared.bus.consume import attempt
from shared.clock import monotonic
from shared.contracts.asks import Answered
from shared.contracts.base import Message, decode, encode
from shared.errors import Failure, MillraceError, Transient
from shared.metrics.catalogue import QUESTIONS
from shared.subjects import ask_filter, asker_of
from shared.telemetry import Handled, handling

_PATIENCE = 5.0
"""Seconds for the answers under way when the service stops."""


@dataclass(frozen=True, slots=True)
class Answer[Q: Message]:
    """How a question is read and answered; `handle` is given the tenant that asks."""

    question: type[Q]
    handle: Callable[[str, Q], Awaitable[Message]]

    async def to(self, tenant: str, body: bytes) -> Message:
        """The answer to a body.

        Raises:
            Permanent: `invalid_message`, and whatever the handler raises.
        """
        return await self.handle(tenant, decode(body or b"{}", self.question))


@dataclass(eq=False, slots=True)
class _Line:
    """Of one tenant."""

    turn: asyncio.Semaphore
    length: int = 0


class Turns:
    """Who is answered when: so many `at_once`, `each` of a tenant, `most` of it in line."""

    def __init__(self, at_once: int = 8, each: int = 2, most: int = 64) -> None:
        self._each, self._most = each, most
        self._all = asyncio.Semaphore(at_once)
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Wait for one's turn, and have it.

        Raises:
            Transient: `busy` where too many of the tenant's wait already.
        """
        line = self._lines.setdefault(tenant, _Line(asyncio.Semaphore(self._each)))
        if line.length >= self._most:
            raise Transient(
                "busy", f"{line.length} questions of {tenant} wait already", retry_after=0.5
            )
        line.length += 1
        try:
            async with line.turn, self._all:
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[tenant]


class Desk:
    """The questions that one service answers; its replicas share them."""

    def __init__(
        self, bus: Bus, answers: Mapping[str, Answer[Any]], turns: Turns | None = None
    ) -> None:
        self._bus, self._answers = bus, answers
        self._turns = turns or Turns()
        self._heard: list[Subscription] = []
        self._under_way: set[asyncio.Task[None]] = set()
        for what in answers:
            QUESTIONS.show(what, "ok")

    async def start(self) -> None:
        """Subscribe; every question from now on is heard when this returns.

        Raises:
            Transient: `bus_unavailable`, `request_timeout`.
        """
        try:
            for what in self._answers:
                self._heard.append(
                    await self._bus.nc.subscribe(
                        ask_filter(what), queue=f"ask-{what}", cb=self._on_question
                    )
                )
        except nats.errors.Error as error:
            raise Transient("bus_unavailable", type(error).__name__) from error
        await self._bus.arrived()

    async def stop(self) -> None:
        """Answer what was heard, and hear no more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await asyncio.gather(*map(_drained, self._heard))
                while self._under_way:
                    await asyncio.wait(self._under_way)
        for task in list(self._under_way):
            task.cancel()

    async def _on_question(self, message: Msg) -> None:
        """Returns at once: who waits for a long answer must not hold up the next question."""
        if not message.reply:
            return
        task = asyncio.create_task(self._answer(message))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer(self, message: Msg) -> None:
        handling(Handled(message.subject, message.headers or {}))
        begun, outcome = monotonic(), "ok"
        what = message.subject.rpartition(".")[2]
        reply = await attempt(lambda: self._answer_to(what, message), self._bus.log)
        if isinstance(reply, Failure):
            reply, outcome = Answered(error=reply), "failed"
        QUESTIONS.observe(monotonic() - begun, what, outcome)
        try:
            await self._send(message.reply, reply)
        except Transient:
            return  # there is no connection; who asks meets a time-out and asks again

    async def _send(self, reply: str, answer: Message) -> None:
        try:
            await self._bus.send(reply, encode(answer))
        except Transient:
            raise
        except MillraceError as error:  # an answer that is no message must be an answer as well
            await self._bus.send(reply, encode(Answered(error=error.as_failure())))

    async def _answer_to(self, what: str, message: Msg) -> Message:
        tenant = asker_of(message.subject)
        answer = self._answers[what]
        async with self._turns.turn(tenant):
            return await answer.to(tenant, message.data)


async def _drained(heard: Subscription) -> None:
    with suppress(nats.errors.Error):  # the connection is closed, and the subscription with it
        await heard.drain()  # type: ignore[no-untyped-call]  # of nats-py
