"""Requests with many answers over one inbox of the connection: asking costs no subscription.

An inbox of its own for each request is a SUB and an UNSUB on the wire, a task and two queues here;
measured, that was a third of what a stateless completion cost the process that asks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.errors import Transient

MOST = 8192
"""Answers that may wait for an asker that does not take them; who falls further behind is cut off:
a stream that grows without bound would take the others with it."""


class Answers:
    """The answers to one request, in order."""

    def __init__(self, subject: str, silence: float) -> None:
        self.subject = subject
        self._silence = silence
        self._arrived: deque[Msg] = deque()
        self._failure: Transient | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(silence, self._look)

    async def next(self) -> Msg:
        """The next one.

        Raises:
            Transient: `request_timeout` when nothing has come for too long, `slow_reader` when
                too much has come, `bus_unavailable` when the connection was lost: answers may be
                lost with it.
        """
        while not self._arrived or self._failure is not None:
            if self._failure is not None:
                raise self._failure
            self._waiting = self._loop.create_future()
            await self._waiting
        return self._arrived.popleft()

    def take(self, message: Msg) -> None:
        """One has come."""
        if self._failure is not None:
            return
        self._heard = self._loop.time()
        if len(self._arrived) >= MOST:
            self.fail(Transient("slow_reader", f"more than {MOST} answers were not taken"))
            return
        self._arrived.append(message)
        self._wake()

    def fail(self, failure: Transient) -> None:
        """No more is to be had."""
        self._failure = self._failure or failure
        self._arrived.clear()
        self._wake()

    def close(self) -> None:
        """Nobody waits any more."""
        self._timer.cancel()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _look(self) -> None:
        """One timer for the whole request, which looks when something came last: a timer for each
        answer costs more than the answer."""
        left = self._heard + self._silence - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.fail(Transient("request_timeout", f"nothing came for {self._silence:.0f} s"))


class Replies:
    """The inbox, and whoever waits for answers on it."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._inbox = ""
        self._asked = 0
        self._open: dict[str, Answers] = {}

    async def start(self) -> None:
        """Subscribe, for as long as the connection lasts."""
        self._inbox = f"{self._nc.new_inbox()}."
        await self._nc.subscribe(
            f"{self._inbox}*",
            cb=self._on_answer,
            pending_msgs_limit=1_000_000,
            pending_bytes_limit=0,
        )

    @contextmanager
    def open(self, silence: float) -> Iterator[Answers]:
        """Wait for answers; a request is sent with their `subject` as its reply.

        `silence` is how many seconds may pass without one.
        """
        self._asked += 1
        key = str(self._asked)
        answers = self._open[key] = Answers(self._inbox + key, silence)
        try:
            yield answers
        finally:
            del self._open[key]
            answers.close()

    def disconnected(self) -> None:
        """What was on its way is lost, and an answer with a gap in it is none."""
        for answers in self._open.values():
            answers.fail(Transient("bus_unavailable", "the connection to the bus was lost"))

    async def _on_answer(self, message: Msg) -> None:
        answers = self._open.get(message.subject[len(self._inbox) :])
        if answers is not None:
            answers.take(message)
